"""Tickets: where bulk bytes are fetched or delivered, outside ZeroMQ.

A ticket names a unix stream socket and a token. Its holder connects, sends ``token`` and a newline, and then has the
byte stream (or, where the job says so, receives a file descriptor by SCM_RIGHTS). A ticket is good for one connection
and expires after `TICKET_LIFETIME`. `shared.bus.tickets` says how a stream that breaks off is told from one that ends.
"""

from __future__ import annotations

from shared.protocol.job import Data

__all__ = ["TICKET_LIFETIME", "Ticket"]

TICKET_LIFETIME = 30.0  # seconds


class Ticket(Data, frozen=True):
    path: str
    token: str
