from __future__ import annotations

import logging
from collections.abc import Iterator

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
