"""Archives over HTTP: asked for again while nothing of them has come, an error once something has."""

from __future__ import annotations

import io
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from services.apiserver import transfer
from shared.bus.tickets import TicketServer
from shared.protocol import DockyardError, ExportContainer, Ticket, Unavailable
from tests.unit.apiserver.test_routes import api

TAR = b"t" * 10240


class Driver:
    """One that ends as it is told, once for each answer: with a number of bytes, then a crash or an end."""

    def __init__(self, directory: Path, *endings: tuple[int, bool]) -> None:
        self.tickets = TicketServer(directory / "tickets.sock")
        self.endings = list(endings)

    def ticket(self, _job: ExportContainer) -> Ticket:
        count, crash = self.endings.pop(0)

        def serve(connection: socket.socket) -> None:
            connection.sendall(TAR[:count])
            if crash:
                raise ConnectionResetError

        return self.tickets.issue(serve, whole=True)


def test_an_archive_that_did_not_begin_is_asked_for_again(tmp_path: Path) -> None:
    http, bus = api(export=Driver(tmp_path, (0, True), (0, True), (len(TAR), False)).ticket)
    answer = http.get("/containers/web/export")
    assert (answer.status_code, answer.data, len(bus.calls)) == (200, TAR, 3)


def test_a_ticket_of_a_driver_that_is_gone_is_no_archive(tmp_path: Path) -> None:
    driver = Driver(tmp_path, (len(TAR), False))
    gone = Ticket(path=str(tmp_path / "nobody"), token="0" * 32)
    answers = iter([gone])
    http, bus = api(export=lambda job: next(answers, None) or driver.ticket(job))
    answer = http.get("/containers/web/export")
    assert (answer.status_code, answer.data, len(bus.calls)) == (200, TAR, 2)


def test_one_that_never_begins_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RETRY_TIME", 0.2)
    http, _ = api(export=Driver(tmp_path, *[(0, True)] * 9).ticket)
    answer = http.get("/containers/web/export")
    assert answer.status_code == 503
    assert "broke off before it began" in answer.get_json()["message"]


def test_one_that_breaks_off_later_has_no_end(tmp_path: Path) -> None:
    http, bus = api(export=Driver(tmp_path, (5120, True), (len(TAR), False)).ticket)
    with pytest.raises(ConnectionResetError):
        http.get("/containers/web/export").data  # noqa: B018
    assert len(bus.calls) == 1


class Sending(io.BytesIO):
    """A body that comes slowly."""

    def read(self, size: int | None = -1, /) -> bytes:
        time.sleep(0.01)
        return super().read(min(5, size if size and size > 0 else 5))

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def test_who_is_still_sending_is_heard_out_before_the_error_is_told() -> None:
    """A client that finds the connection closed in the midst of its body says "broken pipe", and not why."""
    body = Sending(b"x" * 100)
    http, _ = api(**{"import": DockyardError("No space left on device")})
    answer = http.post("/images/create?fromSrc=-", input_stream=body, content_length=100)
    assert (answer.status_code, answer.get_json()["message"], body.tell()) == (500, "No space left on device", 100)


def test_an_error_before_it_is_the_answer() -> None:
    http, bus = api(export=Unavailable("no graphdriver"))
    assert http.get("/containers/web/export").status_code == 503
    assert len(bus.calls) == 1
