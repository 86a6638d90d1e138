from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.bus.context import Context, current
from shared.protocol import Header
from shared.runtime.log import set_up_logging

log = logging.getLogger("dockyard.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, handlers = logging.getLogger(), list(logging.getLogger().handlers)
    level = root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_carries_the_id_of_the_job_that_is_worked_on(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(debug=False)
    log.info("no job")
    token = current.set(Context(Header(id="a" * 32), lambda output: None))
    log.info("link made name=%s", "eth0")
    log.info("it has one job=%s", "b" * 32)
    current.reset(token)
    lines = [line.partition("dockyard.test ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["no job", f"link made name=eth0 job={'a' * 32}", f"it has one job={'b' * 32}"]


def test_nothing_that_is_logged_makes_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor moves a cursor; and the lines of a traceback do not begin as others do."""
    set_up_logging(debug=False)
    forged = "2026-01-01 00:00:00,000 ERROR dockyard.engine forged"
    log.info("no such container name=%s", f"x\n{forged}\r\x1b[2J\u2028é")
    try:
        raise ValueError(f"x\n{forged}\x1b")
    except ValueError:
        log.exception("failed")
    out = capsys.readouterr().err
    assert [line for line in out.split("\n") if line.startswith("2026-01-01")] == []
    assert out.count("dockyard.test ") == 2
    assert "name=x\\n2026" in out
    assert "\\r\\x1b[2J\\u2028é" in out
    assert f"\n  {forged}\\x1b\n" in out
    assert all(char.isprintable() or char == "\n" for char in out)


@pytest.mark.parametrize("journal", [True, False])
def test_the_journal_is_told_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: bool) -> None:
    with (tmp_path / "stream").open("w+") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino if journal else 1}")
        monkeypatch.setattr(sys, "stderr", stream)
        set_up_logging(debug=True)
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            log.log(level, "said")
        stream.seek(0)
        heads = [line[:3] for line in stream]
    assert heads == (["<7>", "<6>", "<4>", "<3>", "<2>"] if journal else ["202"] * 5)
