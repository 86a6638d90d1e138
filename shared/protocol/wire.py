"""Frames: how jobs travel over ZeroMQ (docs/protocol.md is the specification).

| part | content                                                     |
|------|-------------------------------------------------------------|
| 0    | ``DY1``: magic and version                                  |
| 1    | kind: one of `Kind`                                         |
| 2    | header: JSON of `Header`                                    |
| 3    | body: JSON; what it is depends on the kind                  |
"""

from __future__ import annotations

import enum
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shared.protocol.errors import DockyardError, InvalidArgument, from_code
from shared.protocol.job import Data

__all__ = [
    "MAGIC",
    "MAX_MESSAGE_SIZE",
    "Caller",
    "Failure",
    "Frame",
    "Header",
    "Kind",
    "Output",
    "Registration",
    "decode_body",
    "encode_body",
    "is_id",
    "new_id",
]

MAGIC = b"DY1"
MAX_MESSAGE_SIZE = 16 * 1024 * 1024  # bytes in one part; ZMQ_MAXMSGSIZE on every socket


class Kind(enum.StrEnum):
    REGISTER = "REGISTER"  # driver → engine: body `Registration`; engine → driver: "I do not know you, register"
    READY = "READY"  # driver → engine: the service takes jobs
    JOB = "JOB"  # caller → engine → driver: body is the job
    STATUS = "STATUS"  # driver → engine → caller: body `Output`
    RESULT = "RESULT"  # driver → engine → caller: body is the result, or `Failure`
    CANCEL = "CANCEL"  # caller → engine → driver: stop the job of that id
    HEARTBEAT = "HEARTBEAT"  # both ways; with a job's id: "do you still have it?" (status 0 yes, 127 no)
    EVENT = "EVENT"  # engine → subscribers (PUB socket)


# bounded by type: the engine keeps these numbers in columns of 64 bits, and a peer may send any
Id = Annotated[int, Meta(ge=0, lt=1 << 32)]  # a pid or a uid, as the kernel has them
ExitStatus = Annotated[int, Meta(ge=0, lt=256)]

ID_LENGTH, HEX_DIGITS = 32, frozenset("0123456789abcdef")
KINDS = {kind.encode(): kind for kind in Kind}


class Caller(Data, frozen=True):
    """Who sent a job. The engine puts in what the kernel says of the connection (SO_PEERCRED), where it can."""

    service: str
    pid: Id
    uid: Id = 0
    peer: str = ""  # for whom: a client of the API, as "uid=0 pid=77", "192.0.2.1:4711", "CN=alice 192.0.2.1:4711"


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    id: str = ""  # the job's id, 32 hex digits, made by the first caller
    name: str = ""  # JOB: the job's name. REGISTER, READY, HEARTBEAT: the service's name
    parent: str = ""  # the id of the job that called this one
    deadline: float | None = None  # seconds on CLOCK_MONOTONIC (one clock for all processes of a host)
    caller: Caller | None = None
    status: ExitStatus = 0  # RESULT: 0 OK, 1 error, 127 not found
    again: bool = False  # JOB: asked before under this id; the answer was lost with a process


class Registration(Data, frozen=True):
    """What a driver offers. Members of a pool share their names; any other second holder is refused.

    A driver that registers as ``catchall`` gets every job whose name nobody holds. With ``leaving`` a process says that
    it was asked to end: it finishes what it has under way, and gets no more; ``names`` say nothing then.
    """

    names: list[str]
    pid: int
    pool: bool = False
    catchall: bool = False
    leaving: bool = False


class Failure(Data, frozen=True):
    """The body of a RESULT whose status is not 0."""

    code: str
    message: str


class Output(Data, frozen=True):
    """The body of a STATUS: a piece of small output; bulk bytes go over a `Ticket` instead."""

    stream: str = "stdout"  # stdout, stderr, progress (JSON in ``text``), ticket (JSON of `Ticket` in ``text``)
    text: str = ""


_decode_header = msgspec.json.Decoder(Header).decode


class Frame(msgspec.Struct, frozen=True):
    kind: Kind
    header: Header
    body: bytes = b"null"

    def parts(self) -> list[bytes]:
        return [MAGIC, self.kind.encode(), msgspec.json.encode(self.header), self.body]

    @classmethod
    def parse(cls, parts: Sequence[bytes]) -> Frame:
        """Parse the parts behind the routing identity; raises InvalidArgument and nothing else."""
        if len(parts) != 4:
            raise InvalidArgument(f"a message has 4 parts, not {len(parts)}")
        if parts[0] != MAGIC:
            raise InvalidArgument(f"magic is {bytes(parts[0][:8])!r}, not {MAGIC!r}")
        try:
            return cls(KINDS[parts[1]], _decode_header(parts[2]), parts[3])
        except KeyError:
            raise InvalidArgument(f"malformed frame: {bytes(parts[1][:16])!r} is no kind") from None
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            raise InvalidArgument(f"malformed frame: {error}") from None

    @classmethod
    def result(cls, header: Header, value: Any) -> Frame:
        return cls(Kind.RESULT, Header(id=header.id, name=header.name), encode_body(value))

    @classmethod
    def failure(cls, header: Header, error: DockyardError) -> Frame:
        header = Header(id=header.id, name=header.name, status=error.status)
        return cls(Kind.RESULT, header, encode_body(Failure(code=error.code, message=error.message)))

    def error(self) -> DockyardError:
        """Rebuild the error that a RESULT with a status other than 0 carries."""
        failure = decode_body(self.body, Failure)
        return from_code(failure.code, failure.message)


def encode_body(value: Any) -> bytes:
    return msgspec.json.encode(value)


def decode_body(body: bytes, kind: Any) -> Any:
    """Decode a body as ``kind``; raises InvalidArgument and nothing else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"malformed body: {error}") from None


def is_id(text: str) -> bool:
    """Say whether this can be a job's id."""
    return len(text) == ID_LENGTH and HEX_DIGITS.issuperset(text)


def new_id() -> str:
    """Return an id for a job: 32 hex digits. Those of one second begin alike: the journal's index grows at its end."""
    return f"{int(time.time()) & 0xFFFFF:05x}{uuid.uuid4().hex[5:]}"
