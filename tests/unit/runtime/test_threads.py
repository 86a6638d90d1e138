from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from shared.runtime.threads import Threads

LONG = 60.0  # seconds: for ever


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def named() -> int:
    return sum(thread.name == "test" for thread in threading.enumerate())


def test_it_does_what_it_is_given_and_tells_what_came_of_it() -> None:
    threads = Threads("test", 2)
    assert threads.submit(pow, 2, 5).result(LONG) == 32
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(LONG)
    assert list(threads.map(abs, range(-50, 0))) == list(range(50, 0, -1))


def test_what_is_beyond_the_limit_waits_its_turn() -> None:
    threads, go, begun = Threads("test", 3), threading.Event(), []

    def work(number: int) -> int:
        begun.append(number)
        go.wait(LONG)
        return number

    futures = [threads.submit(work, number) for number in range(9)]
    until(lambda: len(begun) == 3)
    assert sorted(begun) == [0, 1, 2]
    go.set()
    assert [future.result(LONG) for future in futures] == list(range(9))


def test_what_is_cancelled_in_time_is_not_done() -> None:
    threads, go, done = Threads("test", 1), threading.Event(), []
    first = threads.submit(go.wait, LONG)
    second = threads.submit(done.append, 1)
    assert second.cancel()
    go.set()
    assert first.result(LONG)
    assert threads.submit(len, done).result(LONG) == 0


def test_threads_that_find_no_work_end_but_some() -> None:
    before = named()
    threads, together = Threads("test", 100, kept=2, idle_time=0.01), threading.Barrier(20)
    for future in [threads.submit(together.wait, LONG) for _ in range(20)]:
        future.result(LONG)
    until(lambda: named() == before + 2)
    assert {threads.submit(threading.get_ident).result(LONG) for _ in range(10)}
    assert named() <= before + 2


def test_who_waits_the_shortest_time_gets_the_next_work() -> None:
    """So the others find none, however often something comes."""
    threads, together = Threads("test", 10, idle_time=LONG), threading.Barrier(5)
    for future in [threads.submit(together.wait, LONG) for _ in range(5)]:
        future.result(LONG)
    until(lambda: len(threads._idle) == 5)

    def who() -> int:
        ident = threads.submit(threading.get_ident).result(LONG)
        until(lambda: len(threads._idle) == 5)
        return ident

    assert len({who() for _ in range(20)}) == 1


def test_work_that_comes_as_a_thread_ends_is_done() -> None:
    threads = Threads("test", 4, kept=0, idle_time=0.001)
    for number in range(300):
        time.sleep(0.0008 + 0.0001 * (number % 5))
        assert threads.submit(abs, -number).result(LONG) == number
