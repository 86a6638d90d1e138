"""Transfer: a tar into a container, by the job that `docker cp` is."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterable

import msgspec

from services.builder.tarstream import Item, chunks
from shared.bus.bus import Bus
from shared.bus.tickets import deliver
from shared.protocol import CopyToContainer, Output, Ticket, Unavailable

__all__ = ["send", "send_bytes"]


def send(bus: Bus, container: str, path: str, items: Iterable[Item]) -> None:
    """Unpack entries of sources into a directory of a container. Errors: of `CopyToContainer`, OSError."""
    send_bytes(bus, container, path, chunks(items))


def send_bytes(bus: Bus, container: str, path: str, data: Iterable[bytes]) -> None:
    sending: list[threading.Thread] = []
    failures: list[BaseException] = []

    def deliver_to(ticket: Ticket) -> None:
        try:
            deliver(ticket, data)
        except (ConnectionError, Unavailable):
            return  # the receiver says why it took no more
        except BaseException as error:
            failures.append(error)

    def on_status(output: Output) -> None:
        if output.stream == "ticket":
            ticket = msgspec.json.decode(output.text, type=Ticket)
            run = contextvars.copy_context().run
            sending.append(threading.Thread(target=run, args=(deliver_to, ticket), name="send", daemon=True))
            sending[-1].start()

    try:
        bus.call(CopyToContainer(container=container, path=path), timeout=None, on_status=on_status)
    except Unavailable:
        for thread in sending:
            thread.join()
        if failures:
            raise failures[0] from None
        raise
