"""What `dockyard up` refuses before anything runs: one line, an exit status, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ctl import up
from shared.runtime.config import Config, ConfigError


@pytest.fixture
def config() -> Iterator[Config]:
    with tempfile.TemporaryDirectory(prefix="dy") as directory:  # short: a socket's path has 107 bytes
        yield Config(root=Path(directory, "root"), run=Path(directory, "run"))


def test_the_pid_file_is_there_while_the_stack_is_and_a_stale_one_is_replaced(config: Config) -> None:
    config.run.mkdir()
    config.pid_path.write_text("1")  # which runs: the lock decides, not this
    with up.pidfile(config.pid_path):
        assert config.pid_path.read_text() == str(os.getpid())
    assert not config.pid_path.exists()


def test_a_pid_file_that_another_stack_has_taken_stays(config: Config) -> None:
    config.run.mkdir()
    with up.pidfile(config.pid_path):
        config.pid_path.write_text("77")
    assert config.pid_path.read_text() == "77"


def test_a_pid_file_that_cannot_be_written_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pidfile: "), up.pidfile(tmp_path / "none" / "pid"):
        pytest.fail("it went on")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "does not exist"),
        ("[watcher:a]\ncmd = true\nmax_retry = -1\n", "max_retry of a"),
        ("cmd = true\n", "no section headers"),
        ("[watcher:a]\nnumprocesses = 1\n", "a has no cmd"),
        ("[watcher:engine]\ncmd = true\nnumprocesses = 2\n", "there can be only one engine, not 2"),
    ],
)
@pytest.mark.parametrize("begin", ["run_stack(config, ini, [])", "up_checked(config, ini)"])
def test_a_bad_circus_ini_is_a_line_and_78(config: Config, text: str | None, why: str, begin: str) -> None:
    config.run.mkdir()
    ini = config.run / "circus.ini"
    if text is not None:
        ini.write_text(text)
    script = (
        "import sys; from pathlib import Path; from services.ctl import up; from shared.runtime.config import Config"
    )
    script += f"; config, ini = Config(run=Path(sys.argv[1])), Path(sys.argv[2]); sys.exit(up.{begin})"
    command = [sys.executable, "-c", script, str(config.run), str(ini)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == up.EX_CONFIG
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("dockyard: ")
    assert why in lines[0]


def test_without_flags_nothing_is_loaded_that_parses_them() -> None:
    """Of this the time depends that passes before the first process of the stack is started."""
    environ = {**os.environ, "DOCKYARD_ROOT": "/dev/null", "DOCKYARD_CONFIG": "/dev/null"}
    command = [sys.executable, "-X", "importtime", "-m", "services.ctl.main", "up"]
    answer = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert answer.returncode == up.EX_CONFIG
    assert "dockyard: root: /dev/null is not a directory" in answer.stderr
    loaded = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "services.ctl.launcher" in loaded
    assert not loaded & {"typer", "pydantic", "rich", "services.ctl.commands"}


def detached(run: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "DOCKYARD_CONFIG": "/dev/null", "DOCKYARD_RUN": str(run), **environ}
    command = [sys.executable, "-m", "services.ctl.main", "up", "--detach"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_a_run_directory_that_cannot_be_used_is_a_line_when_detached_too(tmp_path: Path) -> None:
    file, long = tmp_path / "file", tmp_path / ("a" * 100)
    file.touch()
    for run, why in ((file, f"{file}: File exists"), (long, f"{long} is longer than 87 bytes,")):
        answer = detached(run)
        assert answer.returncode == up.EX_CONFIG
        (line,) = answer.stderr.splitlines()
        assert line.startswith(f"dockyard: run: {why}")


def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{sys.executable} -m services.ctl.main job help | true"
    answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert answer.stderr == ""
