from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from services.ctl.stacklog import Log, bound, of_service, search, the_log, unit_of
from shared.runtime.slices import BOOTED

ONE, TWO = "1" * 32, "2" * 32
LOG = f"""\
2026-01-31 12:00:00,250 INFO dockyard.execdriver not attached container=7 job={ONE}
2026-01-31 12:00:00,300 ERROR dockyard.engine handler failed job={TWO} name=stop
Traceback (most recent call last):
  File "x.py", line 1, in <module>
ValueError: no
2026-01-31 12:00:01,000 INFO dockyard.engine service ready name=netdriver pid=7
[2026-01-31 12:00:01 +0000] [7] [WARNING] a line of gunicorn's
2026-01-31 12:00:02,000 INFO dockyard.jobs -job start = OK (0) job={ONE}
not a line of ours job={ONE}
"""


def test_the_lines_of_the_jobs_are_found_with_their_tracebacks(tmp_path: Path) -> None:
    path = tmp_path / "dockyard.log"
    path.write_text(LOG)
    found = list(search(Log(path).lines(), {ONE, TWO}))
    assert [(line.job, line.level, line.service, line.text) for line in found] == [
        (ONE, "INFO", "execdriver", "not attached container=7"),
        (TWO, "ERROR", "engine", "handler failed name=stop"),
        (TWO, "ERROR", "engine", "Traceback (most recent call last):"),
        (TWO, "ERROR", "engine", '  File "x.py", line 1, in <module>'),
        (TWO, "ERROR", "engine", "ValueError: no"),
    ]
    assert found[0].at == datetime(2026, 1, 31, 12, 0, 0, 250_000).timestamp()


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert list(search(Log(tmp_path / "dockyard.log").lines(), {ONE})) == []


def test_the_lines_of_one_service() -> None:
    lines = LOG.splitlines()
    assert list(of_service(lines, "execdriver")) == lines[:1]
    assert list(of_service(lines, "engine")) == lines[1:9]
    assert list(of_service(lines, "graphdriver")) == []


def test_the_last_lines_and_whose_there_are(tmp_path: Path) -> None:
    path, seen = tmp_path / "dockyard.log", set[str]()
    assert not Log(path).is_there
    path.write_text(LOG)
    assert Log(path).is_there
    assert list(Log(path).last(2)) == LOG.splitlines()[-2:]
    assert list(of_service(Log(path).lines(), "nobody", seen)) == []
    assert seen == {"engine", "execdriver"}


def ctl(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "services.ctl.main", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return answer.returncode, answer.stdout, answer.stderr


def test_a_service_that_is_none_and_a_log_that_is_not_there_are_told(tmp_path: Path) -> None:
    run = ("--run", str(tmp_path), "logs")
    if not BOOTED.is_dir():
        status, out, err = ctl(*run)
        assert (status, out) == (1, "")
        assert err.startswith(f"dockyard: there is no log: {tmp_path}/dockyard.log ")
    (tmp_path / "dockyard.log").write_text(LOG)
    assert ctl(*run, "ingine") == (1, "", "dockyard: no line of the log is of ingine, but of engine, execdriver\n")
    assert ctl(*run, "execdriver") == (0, f"{LOG.splitlines()[0]}\n", "")
    assert ctl(*run, "dns") == (0, "", "")  # it may have been quiet


def test_where_a_stack_logs(tmp_path: Path) -> None:
    """A process whose stderr is the journal is told so in JOURNAL_STREAM; no process: the file, if there is one."""
    file, pidfile = tmp_path / "dockyard.log", tmp_path / "pid"
    file.touch()
    assert the_log(tmp_path, pidfile) == Log(file)
    with file.open("ab") as stream:
        own = os.fstat(stream.fileno())
        for journal, unit in ((f"{own.st_dev}:{own.st_ino}", True), ("8:1", False), ("", False)):
            # the shell's own, or that of whoever has begun the session in which somebody starts a stack by hand
            environ = {"PATH": os.environ["PATH"], "JOURNAL_STREAM": journal}
            with subprocess.Popen(["sleep", "60"], env=environ, stderr=stream) as process:
                pidfile.write_text(str(process.pid))
                while not Path(f"/proc/{process.pid}/environ").read_bytes():
                    time.sleep(0.01)  # a program that has just been executed has none yet
                found = the_log(tmp_path, pidfile)
                process.kill()
            assert bool(found.unit) == unit
            assert found.file == file


def test_whose_main_process_the_arbiter_is(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    assert unit_of(pidfile) == ""
    command = ["sh", "-c", "export SYSTEMD_EXEC_PID=$$; exec sleep 60"]
    for environ, expected in (({}, "dockyard.service"), ({"NOTHING": "1"}, "")):
        with subprocess.Popen(command if not environ else ["sleep", "60"], env={**os.environ, **environ}) as process:
            pidfile.write_text(str(process.pid))
            while b"sleep" not in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[0]:
                time.sleep(0.01)
            found = unit_of(pidfile)
            process.kill()
        assert bool(found) == bool(expected)


def test_a_full_log_begins_anew_and_its_past_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "dockyard.log"
    with path.open("ab", buffering=0) as held:  # as each process of the stack holds it
        for number in range(5):
            held.write(b"%d" % number * 9 + b"\n")
            bound(path, 25)
        assert list(Log(path).lines()) == [f"{number}" * 9 for number in range(5)]
        assert path.read_text() == "333333333\n444444444\n"
