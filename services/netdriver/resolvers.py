"""Resolvers: the netdriver's part in the embedded DNS server. It opens the sockets, and holds them beside the server.

A container's processes ask 127.0.0.11:53. Port 53 itself stays free for them: two rules in the container's own
namespace lead there, to the port that the kernel chose.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from services.netdriver import flows
from services.netdriver.dns import handoff
from services.netdriver.dns.handoff import Message, Pair
from services.netdriver.netns import inside
from services.netdriver.nft import Nft, NftError
from services.netdriver.ports import raised
from shared.protocol import AllocatedPort

__all__ = ["RESOLVER", "Resolvers"]

RESOLVER = "127.0.0.11"
BACKLOG = 64
TIMEOUT = 2.0  # seconds for the server to take a message
PAUSE = 0.05  # seconds between attempts to reach it
QUESTIONS = AllocatedPort(container_port=53, protocol="udp", host_ip=RESOLVER, host_port=53)
log = logging.getLogger("dockyard.netdriver")

ANEW = "delete table ip dockyard_dns\n"  # takes 10 ms, for the kernel waits (RCU): only where there is one
TABLE = """\
table ip dockyard_dns {{
\tchain output {{
\t\ttype nat hook output priority -100; policy accept;
\t\tip daddr {resolver} udp dport 53 dnat to {resolver}:{udp}
\t\tip daddr {resolver} tcp dport 53 dnat to {resolver}:{tcp}
\t}}
}}
"""


class Resolvers:
    """Thread-safe. ``run``: the run directory, where the server's socket is."""

    def __init__(self, run: Path) -> None:
        self._path = handoff.socket_path(run)
        self._held: dict[str, Pair] = {}
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def adopt(self) -> None:
        """Take over what the server holds of a netdriver before us; if it does not answer, there is nothing."""
        with suppress(OSError), self._connect() as connection:
            while (received := handoff.receive(connection))[0].op != "end":
                message, pair = received
                if pair is not None:
                    self._held[message.container] = _raised(pair)
            log.info("resolvers adopted count=%d", len(self._held))

    def ensure(self, container: str, namespace: Path) -> None:
        """Have 127.0.0.11 answered in a container's namespace. Idempotent. Raises OSError, NftError."""
        with self._lock:
            if container in self._held:
                return
        pair = _raised(inside(namespace, _open))
        with self._lock:
            self._held[container] = pair
        self._notice()

    def drop(self, container: str) -> None:
        """Close a container's sockets; none is no error. They keep its namespace from being destroyed."""
        with self._lock:
            pair = self._held.pop(container, None)
        if pair is not None:
            pair.close()
            self._notice()

    def keep_only(self, containers: Iterable[str]) -> None:
        for container in set(self._held) - set(containers):
            self.drop(container)

    def close(self) -> None:
        """Let go of all that we hold, as the end of the process does; what the server holds stays."""
        with self._lock:
            for pair in self._held.values():
                pair.close()
            self._held.clear()
        os.close(self._wake)

    def serve(self, stop: threading.Event) -> None:
        """Have the server hold what we hold, whenever it comes (back); returns when ``stop`` is set."""
        while not stop.is_set():
            try:
                with self._connect() as connection:
                    self._keep_told(connection, stop)
            except OSError as error:
                log.debug("the DNS server is away error=%s", error)
                stop.wait(PAUSE)

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        return connection

    def _keep_told(self, connection: socket.socket, stop: threading.Event) -> None:
        """Raises OSError when the server goes away."""
        told: dict[str, Pair | None] = {}
        while (received := handoff.receive(connection))[0].op != "end":
            message, pair = received
            told[message.container] = None  # whatever it has there, ours replaces it
            if pair is not None:
                pair.close()
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not stop.is_set():
            self._tell(connection, told)
            for descriptor, _ in poll.poll(1000):
                if descriptor == connection.fileno():
                    raise ConnectionError("the DNS server went away")
                with suppress(BlockingIOError):
                    os.eventfd_read(self._wake)

    def _tell(self, connection: socket.socket, told: dict[str, Pair | None]) -> None:
        with self._lock:
            held = dict(self._held)
        for container in [container for container in told if container not in held]:
            handoff.send(connection, Message("drop", container))
            del told[container]
        for container, pair in held.items():
            if told.get(container) is not pair:
                with self._lock:
                    if self._held.get(container) is not pair:
                        continue  # dropped meanwhile, and its sockets are closed
                    handoff.send(connection, Message("serve", container), pair)
                told[container] = pair

    def _notice(self) -> None:
        os.eventfd_write(self._wake, 1)


def _open() -> Pair:
    """Bind the sockets and lead port 53 to them, in the calling thread's namespace."""
    pair = Pair(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    try:
        pair.udp.bind((RESOLVER, 0))
        pair.tcp.bind((RESOLVER, 0))
        pair.tcp.listen(BACKLOG)
        nft = Nft()
        try:
            ports = {"udp": pair.udp.getsockname()[1], "tcp": pair.tcp.getsockname()[1]}
            table = TABLE.format(resolver=RESOLVER, **ports)
            if _is_there(nft):
                nft.run(ANEW + table)
                flows.forget([QUESTIONS])
            else:
                nft.run(table)
        finally:
            nft.close()
    except BaseException:
        pair.close()
        raise
    return pair


def _is_there(nft: Nft) -> bool:
    """Say whether a netdriver before us has made the table."""
    try:
        nft.run("list table ip dockyard_dns")
    except NftError:
        return False
    return True


def _raised(pair: Pair) -> Pair:
    return Pair(raised(pair.udp), raised(pair.tcp))
