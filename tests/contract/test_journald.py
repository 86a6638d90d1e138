"""Output in the journal: a real journald and a real monitor, in a mount namespace of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

JOURNALD = Path("/lib/systemd/systemd-journald")
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not JOURNALD.exists(), reason="there is no systemd-journald on this host"),
]
CONTAINER = "c" * 64
# conmon's runtime: what it has to "create" runs at once, with conmon's pipes
RUNTIME = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" != --pid-file ] || pidfile=$2; shift; done
sh @DIR/command </dev/null &
printf %s $! > $pidfile
"""
SCRIPT = """
set -e
mkdir -p /run/log
mount -t tmpfs tmpfs /run/log
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mkdir -p /run/systemd/journal /run/log/journal
@JOURNALD 2>/dev/null &
journald=$!
trap "kill $journald" EXIT
while [ ! -S /run/systemd/journal/socket ]; do sleep 0.05; done
conmon --api-version 1 --cid @ID --cuuid @ID --name web --runtime @DIR/runtime --bundle @DIR \\
  --persist-dir @DIR --full-attach --container-pidfile @DIR/pidfile --conmon-pidfile @DIR/monitor.pid \\
  --exit-dir @DIR/exits --log-path journald --log-tag web/tag </dev/null >/dev/null 2>&1
@PYTHON -c "$READ"
"""
READ = """
import json, os, subprocess, time
from shared.runtime.logs.journal import read_journal
from shared.runtime.logs.selection import Selection
def ended():
    return os.path.exists("@DIR/exits/@ID")
def wait(seconds):
    time.sleep(seconds)
    return False
def read(follow=False, **wanted):
    pieces = read_journal("@ID", Selection(tty=True, **wanted), follow=follow, ended=ended, wait=wait)
    return b"".join(pieces).decode("latin-1")
found = {"followed": read(follow=True), "all": read(), "stderr": read(stdout=False), "tail": read(tail=2),
         "stamped": read(timestamps=True, stderr=False), "since": read(since=time.time_ns())}
tags = subprocess.run(["journalctl", "--output=cat", "--output-fields=CONTAINER_TAG", "CONTAINER_ID_FULL=@ID"],
                      capture_output=True, text=True).stdout.split()
print(json.dumps({**found, "tags": sorted(set(tags))}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("journald")
    (directory / "exits").mkdir()

    values = {"@DIR": str(directory), "@ID": CONTAINER, "@PYTHON": sys.executable, "@JOURNALD": str(JOURNALD)}

    def filled(text: str) -> str:
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    (directory / "command").write_text(
        "echo one; sleep 0.2; echo two >&2; sleep 0.2; head -c 20000 /dev/zero | tr '\\0' y; echo; "
        "printf '\\377\\n'; sleep 1; echo three; printf four"
    )
    (directory / "runtime").write_text(filled(RUNTIME))
    (directory / "runtime").chmod(0o755)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", filled(SCRIPT)],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "READ": filled(READ)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


EVERYTHING = "one\ntwo\n" + "y" * 20000 + "\n\xff\nthree\nfour"


def test_everything_is_read_and_followed_to_the_end(found: dict[str, Any]) -> None:
    assert found["followed"] == EVERYTHING
    assert found["all"] == EVERYTHING


def test_what_is_wanted_is_chosen(found: dict[str, Any]) -> None:
    assert found["stderr"] == "two\n"
    assert found["tail"] == "three\nfour"
    assert found["since"] == ""
    assert [line.partition("Z ")[2][:5] for line in found["stamped"].splitlines()] == [
        "one", "yyyyy", "\xff", "three", "four",
    ]  # fmt: skip
    assert found["tags"] == ["web/tag"]
