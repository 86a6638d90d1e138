"""Answers: what we know is answered, what we do not know is left to others (RFC 1035).

A name of a container has A and AAAA records; of any other type it has none (RFC 2308, NODATA), and nobody else is
asked. An address of a container has a PTR record.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from string import hexdigits
from typing import Any

from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSError, DNSHeader, DNSRecord

from services.netdriver.dns.names import Names

__all__ = ["Query", "failure", "parse"]

TTL = 5  # seconds; an address may be another's soon
UDP_SIZE = 512  # bytes, unless the query's EDNS allows more (RFC 6891)
REVERSE, REVERSE6 = ".in-addr.arpa", ".ip6.arpa"
HEADER = 12  # bytes
NIBBLES = 32  # of an IPv6 address
QUERY = 0  # opcode


class Query:
    """A question, as far as it matters here."""

    def __init__(self, record: DNSRecord, message: bytes) -> None:
        self.message = message
        self._record = record
        self.name = str(record.q.qname).rstrip(".")
        self._type = int(record.q.qtype)

    def answer(self, names: Names, container: str) -> bytes | None:
        """Return the answer that ``container`` is to get; None if it is not ours to know."""
        if self._type == QTYPE.PTR and self.name.lower().endswith((REVERSE, REVERSE6)):
            found = names.reverse(container, address) if (address := _address(self.name)) else None
            return None if found is None else self._reply([PTR(found)])
        if not names.knows(container, self.name):
            return None
        found4 = [A(one) for one in names.lookup(container, self.name, 4)] if self._asks_for(QTYPE.A) else []
        found6 = [AAAA(one) for one in names.lookup(container, self.name, 6)] if self._asks_for(QTYPE.AAAA) else []
        return self._reply([*found4, *found6])

    def _asks_for(self, kind: int) -> bool:
        return self._type in (kind, QTYPE.ANY)

    def _reply(self, data: list[Any]) -> bytes:
        """``data``: of dnslib's A, AAAA, PTR."""
        reply = self._record.reply(ra=1, aa=0)
        for one in data:
            kind = getattr(QTYPE, type(one).__name__)
            reply.add_answer(RR(self._record.q.qname, kind, ttl=TTL, rdata=one))
        packed: bytes = reply.pack()
        return packed

    def failed(self, rcode: str = "SERVFAIL") -> bytes:
        """Return an answer that says why there is none."""
        reply = self._record.reply(ra=1, aa=0)
        reply.header.rcode = getattr(RCODE, rcode)
        packed: bytes = reply.pack()
        return packed

    def fitting(self, answer: bytes) -> bytes:
        """Return an answer, or, where it is too long for UDP, one that says so: who asks comes back by TCP."""
        allowed = max((int(one.rclass) for one in self._record.ar if one.rtype == QTYPE.OPT), default=UDP_SIZE)
        if len(answer) <= max(UDP_SIZE, allowed):
            return answer
        reply = self._record.reply(ra=1, aa=0)
        reply.header.tc = 1
        packed: bytes = reply.pack()
        return packed


def parse(message: bytes) -> Query | None:
    """Return the question of a message; None for what is none, or is not to be answered."""
    try:
        record = DNSRecord.parse(message)
    except (DNSError, ValueError, IndexError, RecursionError):
        return None
    if record.header.qr or record.header.opcode != QUERY or len(record.questions) != 1:
        return None
    return Query(record, message)


def failure(message: bytes) -> bytes | None:
    """Return an answer to what cannot be parsed: FORMERR, or NOTIMP; None to what is an answer itself, or too short."""
    if len(message) < HEADER or message[2] & 0x80:
        return None
    opcode = message[2] >> 3 & 0xF
    rcode = RCODE.FORMERR if opcode == QUERY else RCODE.NOTIMP
    packed: bytes = DNSRecord(DNSHeader(id=int.from_bytes(message[:2]), qr=1, opcode=opcode, rcode=rcode)).pack()
    return packed


def _address(name: str) -> IPv4Address | IPv6Address | None:
    """Return the address of a name in in-addr.arpa or ip6.arpa (RFC 3596, each nibble a label)."""
    try:
        if name.lower().endswith(REVERSE):
            return IPv4Address(".".join(reversed(name[: -len(REVERSE)].split("."))))
        nibbles = name[: -len(REVERSE6)].split(".")
        if len(nibbles) != NIBBLES or any(len(one) != 1 or one not in hexdigits for one in nibbles):
            return None
        return IPv6Address(int("".join(reversed(nibbles)), 16))
    except ValueError:
        return None
