"""Work on the layers of one image, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from services.graphdriver.abreast import abreast
from shared.bus.context import Context, current
from shared.protocol import Cancelled, Header, InvalidArgument

Check = Callable[[], None]
WAIT = 30  # seconds; only who is broken waits so long


def until_stopped(check: Check) -> None:
    while True:
        check()


def test_what_each_returns_comes_in_order() -> None:
    second = threading.Event()

    def work(index: int, check: Check) -> int:
        if index == 0:
            assert second.wait(WAIT), "the next one is done meanwhile"
        elif index == 1:
            second.set()
        return index * 10

    assert abreast(3, work, 2) == [0, 10, 20]
    assert abreast(0, work, 2) == []


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_no_more_than_so_many_at_a_time_each_once(at_a_time: int) -> None:
    lock, running, seen, begun = threading.Lock(), 0, 0, []

    def work(index: int, check: Check) -> int:
        nonlocal running, seen
        with lock:
            begun.append(index)
            running += 1
            seen = max(seen, running)
        check()
        with lock:
            running -= 1
        return index

    assert abreast(50, work, at_a_time) == list(range(50))
    assert sorted(begun) == list(range(50))
    assert seen <= at_a_time


def test_one_that_fails_ends_the_others_and_is_what_is_raised() -> None:
    begun, ended = [], []
    other = threading.Event()

    def work(index: int, check: Check) -> int:
        begun.append(index)
        if index == 1:
            assert other.wait(WAIT)
            raise InvalidArgument("broken")
        other.set()
        try:
            until_stopped(check)
        finally:
            ended.append(index)
        return index

    with pytest.raises(InvalidArgument, match="broken"):
        abreast(9, work, 2)
    assert sorted(begun) == [0, 1]
    assert ended == [0], "nothing runs any more"


def test_of_two_that_fail_by_themselves_the_first_of_them_is_told() -> None:
    meeting = threading.Barrier(2, timeout=WAIT)

    def work(index: int, check: Check) -> int:
        meeting.wait()
        raise InvalidArgument(f"layer {index}")

    for _ in range(20):
        with pytest.raises(InvalidArgument, match="layer 0"):
            abreast(2, work, 2)


def test_a_job_that_is_cancelled() -> None:
    context = Context(Header(id="1" * 32, name="load"), lambda output: None)
    token = current.set(context)
    meeting = threading.Barrier(2, timeout=WAIT)

    def work(index: int, check: Check) -> int:
        meeting.wait()
        context.cancelled.set()
        until_stopped(check)
        return index

    try:
        with pytest.raises(Cancelled, match="load: cancelled"):
            abreast(2, work, 2)
    finally:
        current.reset(token)
