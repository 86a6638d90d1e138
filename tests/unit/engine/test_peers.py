"""The engine's socket on its loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import zmq

from services.engine.peers import Peers
from shared.bus.sockets import dealer


def test_messages_without_end_leave_others_their_turn(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/socket"
    received = 0

    def receive(_peer: bytes, _parts: list[bytes]) -> None:
        nonlocal received
        received += 1
        with suppress(zmq.Again):  # there are enough under way
            for _ in range(2 if received < 20_000 else 0):
                sender.send(b"again", zmq.NOBLOCK)

    async def main() -> int:
        peers = Peers(receive)
        peers.bind(zmq.Context.instance(), endpoint)
        for _ in range(8):
            sender.send(b"first")
        while received == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        peers.close()
        return received

    with dealer(zmq.Context.instance(), endpoint) as sender:
        assert asyncio.run(main()) < 20_000
