"""Server: answers on the sockets it was handed, one pair a container. One thread, asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from services.netdriver.dns import handoff
from services.netdriver.dns.answers import Query, failure, parse
from services.netdriver.dns.handoff import Message, Pair
from services.netdriver.dns.names import Names
from services.netdriver.dns.upstream import Upstream, host_servers

__all__ = ["Server"]

HOST_RESOLVER = Path("/etc/resolv.conf")
MAX_MESSAGE = 65535  # bytes
BURST = 64  # queries read from a socket before others have their turn
MOST_FORWARDED = 256  # at the same time, of one container
IDLE = 10.0  # seconds that a TCP connection may say nothing
HANDOFF_TIME = 2.0  # seconds
log = logging.getLogger("dockyard.dns")


class Server:
    """``listener`` is the handoff's, bound and listening."""

    def __init__(
        self, names: Names, upstream: Upstream, listener: socket.socket, resolver: Path = HOST_RESOLVER
    ) -> None:
        self._names, self._upstream, self._resolver = names, upstream, resolver
        self._pairs: dict[str, Pair] = {}
        self._tcp: dict[str, asyncio.Server] = {}
        self._forwarded: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        listener.setblocking(False)
        self._loop.add_reader(listener, self._on_netdriver, listener)

    # -- the sockets

    def _on_netdriver(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        try:
            connection.settimeout(HANDOFF_TIME)
            for container, pair in self._pairs.items():
                handoff.send(connection, Message("serve", container), pair)
            handoff.send(connection, Message("end"))
        except OSError as error:
            log.warning("netdriver not told error=%s", error)
            connection.close()
            return
        self._loop.add_reader(connection, self._on_message, connection)

    def _on_message(self, connection: socket.socket) -> None:
        try:
            message, pair = handoff.receive(connection)
        except OSError:
            self._loop.remove_reader(connection)
            connection.close()
            return
        self._drop(message.container)
        if message.op == "serve" and pair is not None:
            self._serve(message.container, pair)

    def _serve(self, container: str, pair: Pair) -> None:
        pair.udp.setblocking(False)
        pair.tcp.setblocking(False)
        self._pairs[container] = pair
        self._loop.add_reader(pair.udp, self._on_udp, container, pair.udp)
        self._spawn(self._listen(container, pair))

    async def _listen(self, container: str, pair: Pair) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve_tcp(container, reader, writer)

        # a duplicate: asyncio closes it with the server, and the pair is to be handed back until then
        made = await asyncio.start_server(serve, sock=pair.tcp.dup())
        if self._pairs.get(container) is pair:
            self._tcp[container] = made
        else:
            made.close()

    def _drop(self, container: str) -> None:
        pair, server = self._pairs.pop(container, None), self._tcp.pop(container, None)
        if pair is not None:
            self._loop.remove_reader(pair.udp)
            pair.close()
        if server is not None:
            server.close()

    # -- queries

    def _on_udp(self, container: str, udp: socket.socket) -> None:
        for _ in range(BURST):
            try:
                message, client = udp.recvfrom(MAX_MESSAGE)
            except OSError:
                return
            query = parse(message)
            if query is None:
                _send(udp, failure(message), client)
            elif (answer := self._known(container, query)) is not None:
                _send(udp, query.fitting(answer), client)
            else:
                self._spawn(self._forward_udp(container, query, udp, client))

    def _known(self, container: str, query: Query) -> bytes | None:
        """Return the answer that needs nobody else; None if others are to be asked."""
        self._names.refresh()
        answer = query.answer(self._names, container)
        if answer is not None:
            return answer
        if not self._names.reaches_out(container):
            return query.failed("NXDOMAIN")  # in a network without a way out there are no other names
        if self._forwarded[container] >= MOST_FORWARDED:
            return query.failed("SERVFAIL")
        return None

    async def _forward_udp(self, container: str, query: Query, udp: socket.socket, client: tuple[Any, ...]) -> None:
        answer = await self._forward(container, query, tcp=False)
        _send(udp, query.fitting(answer), client)

    async def _forward(self, container: str, query: Query, *, tcp: bool) -> bytes:
        servers = self._names.servers(container) or host_servers(self._resolver)
        self._forwarded[container] += 1
        try:
            answer = await self._upstream.ask(query.message, servers, tcp=tcp)
        finally:
            self._forwarded[container] -= 1
            if not self._forwarded[container]:
                del self._forwarded[container]
        return answer if answer is not None else query.failed("SERVFAIL")

    async def _serve_tcp(self, container: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(IDLE):
                    message = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                query = parse(message)
                if query is None:
                    break
                answer = self._known(container, query) or await self._forward(container, query, tcp=True)
                writer.write(len(answer).to_bytes(2) + answer)
                await writer.drain()
        writer.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a query failed", exc_info=task.exception())

    async def close(self) -> None:
        for container in list(self._pairs):
            self._drop(container)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _send(udp: socket.socket, answer: bytes | None, client: tuple[Any, ...]) -> None:
    """A client that is gone, or does not read, is no error; it asks again."""
    if answer is not None:
        with contextlib.suppress(OSError):
            udp.sendto(answer, client)
