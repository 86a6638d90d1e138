"""The engine asks a job of its own again when it is lost with a driver: within bounds, and the journal says so."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Coroutine
from typing import Any

import pytest

from services.engine.dispatch import MAX_LOSSES, Dispatcher
from services.engine.drivers import Driver
from services.engine.flights import Flight
from services.engine.journal import entry
from services.engine.tasks import Tasks
from shared.bus.handlers import Handlers
from shared.protocol import Frame, Job, Kind, Registration, RuntimePause, Unavailable, WritePath, job_name
from shared.protocol.archive import ContainerTree


class Board:
    """A dispatcher and the frames that it has sent; drivers are processes that can be killed."""

    def __init__(self) -> None:
        self.sent: list[tuple[Driver, Frame]] = []
        self.ended: list[Flight] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.dispatcher = Dispatcher(None, Handlers(), Tasks(), self._send, self.ended.append, lambda job_id: None)

    def _send(self, driver: Driver, frame: Frame) -> bool:
        self.sent.append((driver, frame))
        return True

    def add_driver(self, *names: str) -> None:
        process = subprocess.Popen(["sleep", "60"])
        self.processes.append(process)
        peer = str(process.pid).encode()
        self.dispatcher.drivers.register(peer, "driver", Registration(names=list(names), pid=process.pid))
        driver = self.dispatcher.drivers.by_peer(peer)
        assert driver is not None
        driver.ready.set()
        self.dispatcher.drivers.changed()

    async def kill_driver(self) -> None:
        process = self.processes[-1]
        process.kill()
        process.wait()
        async with asyncio.timeout(5):
            while list(self.dispatcher.drivers):
                await asyncio.sleep(0.01)

    async def jobs(self, count: int) -> list[Frame]:
        async with asyncio.timeout(5):
            while len(found := [frame for _, frame in self.sent if frame.kind is Kind.JOB]) < count:
                await asyncio.sleep(0.01)
        return found

    def answer(self) -> None:
        frame = self.sent[-1][1]
        flight = self.dispatcher.flights.get(frame.header.id)
        assert flight is not None
        self.dispatcher.finish(flight, Frame.result(frame.header, None))

    def close(self) -> None:
        self.dispatcher.drivers.close()
        for process in self.processes:
            process.kill()
            process.wait()


def run(work: Any) -> None:
    async def main() -> None:
        board = Board()
        try:
            await work(board)
        finally:
            board.close()

    asyncio.run(main())


def test_a_repeatable_job_goes_to_the_next_driver_under_its_id() -> None:
    async def work(board: Board) -> None:
        board.add_driver("runtime_pause")
        asked = asyncio.ensure_future(board.dispatcher.call(RuntimePause(container="c")))
        await board.jobs(1)
        await board.kill_driver()
        board.add_driver("runtime_pause")
        first, second = await board.jobs(2)
        assert (second.header.id, first.header.again, second.header.again) == (first.header.id, False, True)
        board.answer()
        await asked
        lost, done = map(entry, board.ended)
        assert (lost.id, lost.status, done.status, done.message) == (done.id, 1, 0, "asked again, done")

    run(work)


def test_one_that_is_not_repeatable_fails_at_once() -> None:
    async def work(board: Board) -> None:
        job: Job[Any] = WritePath(tree=ContainerTree(container="c", name="c"), path="/")
        board.add_driver(job_name(job))
        asked = asyncio.ensure_future(board.dispatcher.call(job))
        await board.jobs(1)
        await board.kill_driver()
        with pytest.raises(Unavailable, match="driver died"):
            await asked

    run(work)


@pytest.mark.parametrize("asked", [True, False])
def test_whose_end_was_asked_for_is_no_loss_and_gets_no_more(caplog: pytest.LogCaptureFixture, asked: bool) -> None:
    async def work(board: Board) -> None:
        board.add_driver("runtime_pause")
        (driver,) = board.dispatcher.drivers
        if asked:
            registration = Registration(names=[], pid=driver.pid, leaving=True)
            board.dispatcher.drivers.register(driver.peer, "driver", registration)
        assert (board.dispatcher.drivers.choose("runtime_pause") is None) is asked
        await board.kill_driver()

    caplog.set_level("INFO", "dockyard.engine")
    run(work)
    words = "service left name=driver" if asked else "service lost name=driver"
    assert [record.levelname for record in caplog.records if words in record.message] == [
        "INFO" if asked else "WARNING"
    ]


def test_one_that_every_driver_dies_of_is_given_up() -> None:
    async def work(board: Board) -> None:
        board.add_driver("runtime_pause")
        asked = asyncio.ensure_future(board.dispatcher.call(RuntimePause(container="c")))
        for count in range(1, MAX_LOSSES + 2):
            await board.jobs(count)
            await board.kill_driver()
            board.add_driver("runtime_pause")
        with pytest.raises(Unavailable, match="driver died"):
            await asked

    run(work)


def test_one_that_is_silent_is_asked_again_when_it_answers_and_told_of_what_is_given_up() -> None:
    async def work(board: Board) -> None:
        back: list[Driver] = []
        drivers = board.dispatcher.drivers
        drivers.on_back = back.append
        board.add_driver("runtime_pause", "layer_write")
        asked = asyncio.ensure_future(board.dispatcher.call(RuntimePause(container="c")))
        other: Coroutine[Any, Any, Any] = board.dispatcher.call(
            WritePath(tree=ContainerTree(container="c", name="c"), path="/")
        )
        given_up = asyncio.ensure_future(other)
        written = (await board.jobs(2))[1]
        os.kill(board.processes[-1].pid, signal.SIGSTOP)
        drivers.check_silence(-1)
        with pytest.raises(Unavailable, match="does not answer"):
            await given_up
        assert (Kind.CANCEL, written.header.id) in [(frame.kind, frame.header.id) for _, frame in board.sent]
        (driver,) = drivers
        drivers.heard(driver.peer)
        assert back == [driver]
        again = (await board.jobs(3))[2]
        assert again.header.again
        board.answer()
        await asked

    run(work)
