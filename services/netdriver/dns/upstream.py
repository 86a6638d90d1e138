"""Upstream: names that are not ours are asked of other servers, unchanged but for the message's id.

The first server is asked at once, each further one a moment later unless there is an answer: who is first in
resolv.conf is preferred, and one that is dead costs a moment, not five seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import struct
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

__all__ = ["Upstream", "host_servers"]

PORT = 53
HEAD_START = 0.1  # seconds that a server has before the next one is asked too
TRY_TIME, TRIES = 1.5, 3  # seconds of one attempt by UDP; clients give up after five
TCP_TIME = 4.5  # seconds
HEADER = struct.Struct("!HHHHHH")
NOERROR, NXDOMAIN = 0, 3
Attempt = Callable[[bytes, str], Awaitable[bytes | None]]
log = logging.getLogger("dockyard.dns")


def host_servers(path: Path) -> list[str]:
    """Return the name servers of a resolv.conf."""
    try:
        words = [line.split() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError):
        return []
    return [entry[1] for entry in words if len(entry) > 1 and entry[0] == "nameserver" and _is_address(entry[1])]


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


class Upstream:
    """``port`` is that of all servers."""

    def __init__(self, port: int = PORT) -> None:
        self._port = port

    async def ask(self, message: bytes, servers: list[str], *, tcp: bool) -> bytes | None:
        """Return the first good answer, else the first there was, else None."""
        attempt = self._ask_tcp if tcp else self._ask_udp
        waiting = {
            asyncio.ensure_future(_after(number * HEAD_START, attempt, message, server))
            for number, server in enumerate(servers)
        }
        worse: bytes | None = None
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    answer = task.result()
                    if answer is not None and answer[3] & 0xF in (NOERROR, NXDOMAIN):
                        return message[:2] + answer[2:]
                    worse = worse or answer
        finally:
            for task in waiting:
                task.cancel()
        return message[:2] + worse[2:] if worse else None

    async def _ask_udp(self, message: bytes, server: str) -> bytes | None:
        for _ in range(TRIES):
            with contextlib.suppress(TimeoutError):
                try:
                    return await self._try_udp(secrets.token_bytes(2) + message[2:], server)
                except TimeoutError:
                    raise
                except OSError:  # no way there, or nobody is
                    return None
        return None

    async def _try_udp(self, question: bytes, server: str) -> bytes:
        """Raises TimeoutError, OSError."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Question(question, answered), remote_addr=(server, self._port)
        )
        try:
            transport.sendto(question)
            return await asyncio.wait_for(answered, TRY_TIME)
        finally:
            transport.close()

    async def _ask_tcp(self, message: bytes, server: str) -> bytes | None:
        question = secrets.token_bytes(2) + message[2:]
        try:
            async with asyncio.timeout(TCP_TIME):
                reader, writer = await asyncio.open_connection(server, self._port)
                try:
                    writer.write(len(question).to_bytes(2) + question)
                    await writer.drain()
                    answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return None
        return answer if _belongs(question, answer) else None


async def _after(delay: float, attempt: Attempt, message: bytes, server: str) -> bytes | None:
    await asyncio.sleep(delay)
    return await attempt(message, server)


class _Question(asyncio.DatagramProtocol):
    """Waits for the answer to a question on a connected socket; what does not answer it is overlooked."""

    def __init__(self, question: bytes, answered: asyncio.Future[bytes]) -> None:
        self._question, self._answered = question, answered

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._answered.done() and _belongs(self._question, data):
            self._answered.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)


def _belongs(question: bytes, answer: bytes) -> bool:
    """Say whether a message answers a question: its id, and that it is an answer."""
    return len(answer) >= HEADER.size and answer[:2] == question[:2] and bool(answer[2] & 0x80)
