"""`dockyard scale`: what is refused before the arbiter is asked, and its rounds while it does what it was asked."""

from __future__ import annotations

import pytest

from services.ctl.arbiter import GatedArbiter
from services.ctl.processes import scale
from services.ctl.stack import StackError, most_processes


@pytest.mark.parametrize("service", ["engine", "graphdriver", "reader"])
def test_of_what_keeps_state_there_is_one(service: str) -> None:
    """A second engine would end at once, again and again: the root is the first one's."""
    with pytest.raises(StackError, match=f"there can be only one {service}; what can be scaled: apiserver"):
        scale(service, 2)


def test_a_slip_of_the_finger_does_not_fill_the_memory() -> None:
    with pytest.raises(StackError, match=f"more than {most_processes()} processes of apiserver are of no use here"):
        scale("apiserver", most_processes() + 1)


def test_no_round_begins_while_a_command_is_carried_out() -> None:
    arbiter = GatedArbiter.__new__(GatedArbiter)
    arbiter._restarting, arbiter._exclusive_running_command = False, "watcher_incr"
    assert arbiter.manage_watchers() is None
    assert arbiter._exclusive_running_command == "watcher_incr"
