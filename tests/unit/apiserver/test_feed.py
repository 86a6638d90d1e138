"""The feed of events: read once for all who listen, none lost, none twice, and nothing read for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from services.apiserver.feed import KEPT, Feed, Told
from shared.bus.alarm import Alarm
from shared.bus.context import check_cancelled
from shared.protocol import DockyardError, Event, EventActor, ReadEvents, Unavailable


def until(condition: Callable[[], object], what: str = "it did not happen") -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class Journal:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.asked: list[ReadEvents] = []
        self.error: DockyardError | None = None

    def append(self, count: int = 1) -> None:
        for _ in range(count):
            actor = EventActor(id="c", attributes={})
            seq = len(self.events) + 1
            self.events.append(Event(type="container", action="die", actor=actor, time=seq, time_nano=seq, seq=seq))

    def read(self, asked: ReadEvents) -> list[Event]:
        self.asked.append(asked)
        deadline = time.monotonic() + asked.wait
        while True:
            check_cancelled()
            if self.error is not None:
                raise self.error
            found = [event for event in self.events[asked.after :] if event.time_nano >= asked.since][: asked.limit]
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(0.001)


class Reader(threading.Thread):
    def __init__(self, feed: Feed, asked: ReadEvents) -> None:
        super().__init__(daemon=True)
        self.gone, self.told, self.error = Alarm(), list[Told](), ""
        self.batches = feed.follow(asked, self.gone)
        self.start()

    def run(self) -> None:
        try:
            for batch in self.batches:
                self.told += batch
        except DockyardError as error:
            self.error = error.message

    def numbers(self) -> list[int]:
        return [told.event.seq for told in self.told]


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def feed(journal: Journal) -> Iterator[Feed]:
    feed = Feed(journal.read)
    yield feed
    until(lambda: not feed._runs, what="it reads for nobody")


def listening(journal: Journal, count: int) -> None:
    until(lambda: journal.asked and journal.asked[-1].readers == count and journal.asked[-1].wait)


def test_all_are_given_what_was_read_once(journal: Journal, feed: Feed) -> None:
    journal.append(3)
    readers = [Reader(feed, ReadEvents(after=3)) for _ in range(5)]
    listening(journal, 5)
    before = len(journal.asked)
    journal.append()
    until(lambda: all(reader.numbers() == [4] for reader in readers))
    assert len({id(reader.told[0]) for reader in readers}) == 1
    until(lambda: len(journal.asked) == before + 1)
    lines = {reader.told[0].line(lambda event: f"{event.seq}\n".encode()) for reader in readers}
    assert lines == {b"4\n"}
    readers[0].gone.set()
    listening(journal, 4)  # who has left is not counted
    for reader in readers:
        reader.gone.set()


def test_what_was_before_comes_from_the_journal_and_nothing_twice(journal: Journal, feed: Feed) -> None:
    journal.append(10)
    first = Reader(feed, ReadEvents(after=10))
    listening(journal, 1)
    journal.append(5)
    late, early = Reader(feed, ReadEvents(since=5)), Reader(feed, ReadEvents(after=7))
    listening(journal, 3)
    journal.append(2)
    until(lambda: first.numbers()[-1:] == late.numbers()[-1:] == early.numbers()[-1:] == [17])
    assert first.numbers() == list(range(11, 18))
    assert late.numbers() == list(range(5, 18))
    assert early.numbers() == list(range(8, 18))
    for reader in (first, late, early):
        reader.gone.set()


def test_who_is_slow_loses_nothing(journal: Journal, feed: Feed) -> None:
    gone = Alarm()
    slow = feed.follow(ReadEvents(after=1), gone)
    journal.append(2)
    got = [told.event.seq for told in next(slow)]
    journal.append(2 * KEPT)
    until(lambda: feed._last == len(journal.events))
    while got[-1] < len(journal.events):
        got += [told.event.seq for told in next(slow)]
    assert got == list(range(2, 2 * KEPT + 3))
    slow.close()


def test_an_error_ends_all_and_who_comes_then_begins_anew(journal: Journal, feed: Feed) -> None:
    readers = [Reader(feed, ReadEvents(after=1)) for _ in range(2)]
    listening(journal, 2)
    journal.error = Unavailable("the engine is away")
    until(lambda: all(reader.error == "the engine is away" for reader in readers))
    journal.error = None
    journal.append(2)
    again = Reader(feed, ReadEvents(after=1))
    until(lambda: again.numbers() == [2])
    again.gone.set()
