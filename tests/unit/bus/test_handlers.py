from __future__ import annotations

import pytest

from shared.bus.handlers import Handlers
from shared.protocol import JobNotFound, Ping, SystemVersion


def test_a_second_handler_for_one_job_is_refused() -> None:
    jobs: Handlers[None] = Handlers()
    jobs.handles(Ping)(lambda service, job: "OK")
    with pytest.raises(ValueError, match="Can't overwrite handler for command ping"):
        jobs.handles(Ping)(lambda service, job: "OK")


def test_tables_join_and_look_up() -> None:
    one: Handlers[None] = Handlers()
    two: Handlers[None] = Handlers()
    one.handles(Ping)(lambda service, job: "OK")
    two.handles(SystemVersion)(lambda service, job: {})
    joined = Handlers(one, two)
    assert list(joined) == ["ping", "version"]
    assert joined["ping"](None, Ping()) == "OK"
    with pytest.raises(JobNotFound):
        joined["kill"]
