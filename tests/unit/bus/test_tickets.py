"""Tickets: what a server does where it cannot accept, and when it is closed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.bus import tickets
from shared.bus.tickets import TicketServer, redeem
from shared.protocol import Unavailable


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TicketServer]:
    monkeypatch.setattr(tickets, "RETRY_DELAY", 0.01)
    made = TicketServer(tmp_path / "tickets")
    yield made
    made.close()


def said(server: TicketServer) -> bytes:
    with redeem(server.issue(lambda connection: connection.sendall(b"here"))) as connection:
        return connection.recv(4, socket.MSG_WAITALL)


def test_a_connection_that_cannot_be_accepted_is_not_the_last(
    server: TicketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(server) == b"here"
    failed = threading.Event()
    accept = socket.socket.accept

    def fail(self: socket.socket) -> tuple[socket.socket, str]:
        if not failed.is_set():
            failed.set()
            raise OSError(24, "Too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fail)
    assert said(server) == b"here"  # it was in accept already
    assert said(server) == b"here"
    assert failed.is_set()


def test_a_closed_one_takes_no_more(tmp_path: Path) -> None:
    server = TicketServer(tmp_path / "tickets")
    ticket = server.issue(lambda connection: None)
    server.close()
    with pytest.raises((Unavailable, OSError)):
        redeem(ticket).recv(1)
