"""`dockyard scale`: what is refused before the arbiter is asked, and its rounds while it does what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from services.ctl.arbiter import GatedArbiter, patient
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


def test_a_command_that_comes_while_the_arbiter_looks_is_handled_after_that() -> None:
    looking, handled, put_off = [True], list[list[bytes]](), list[Callable[[], None]]()
    handle = patient(handled.append, lambda: looking[0], lambda _, again, frames: put_off.append(lambda: again(frames)))
    handle([b"a", b"list"])
    assert (handled, len(put_off)) == ([], 1)
    put_off.pop()()
    assert (handled, len(put_off)) == ([], 1)
    looking[0] = False
    put_off.pop()()
    assert (handled, put_off) == ([[b"a", b"list"]], [])


def test_it_looks_as_soon_as_nothing_else_is_done() -> None:
    done: list[str] = []

    class Loop:
        def call_later(self, _: float, again: Callable[[], None]) -> None:
            done.append("later")
            self.again = again

    arbiter: Any = GatedArbiter.__new__(GatedArbiter)
    arbiter.loop, arbiter._running, arbiter._stopping = Loop(), True, False
    arbiter.manage_watchers = lambda: done.append("looked")
    arbiter._exclusive_running_command = "watcher_incr"
    arbiter.look()
    arbiter._exclusive_running_command = None
    arbiter.loop.again()
    arbiter._stopping = True
    arbiter.look()
    assert done == ["later", "looked"]
