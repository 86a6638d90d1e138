"""`dockyard job`: any job, from words on a command line."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from typing import Any, BinaryIO, Union, get_args, get_origin

import msgspec

from shared.bus.client import Client
from shared.bus.tickets import redeem, redeem_descriptor
from shared.protocol import (
    DockyardError,
    ExecCreated,
    InvalidArgument,
    Job,
    Output,
    Ticket,
    encode_body,
    job_type,
    result_type,
)

__all__ = ["build_job", "inject"]

CHUNK = 1 << 18
STDERR = 3  # as the monitor numbers the streams
STDIN_CHUNK = 8192  # bytes that the monitor takes at once


def build_job(name: str, arguments: list[str], environment: list[str]) -> Job[Any]:
    """Make a job from positional words (`Job.ARGS`) and ``K=V`` pairs. Errors: JobNotFound, InvalidArgument.

    A key is a field, in any case and in the wire's or in our spelling; one that the job itself lacks is looked for
    in its structured fields (``Image=busybox`` of `create` is ``config.Image``).
    """
    kind = job_type(name)
    body: dict[str, Any] = {}
    if len(arguments) > len(kind.ARGS) and not _takes_list(kind):
        raise InvalidArgument(f"usage: {name} {' '.join(word.upper() for word in kind.ARGS)}".rstrip())
    for index, field_name in enumerate(kind.ARGS):
        if _takes_list(kind) and index == len(kind.ARGS) - 1:
            body[field_name] = arguments[index:]
        elif index < len(arguments):
            body[field_name] = arguments[index]
    for pair in environment:
        key, separator, value = pair.partition("=")
        if not separator:
            raise InvalidArgument(f"--env wants K=V, not {pair!r}")
        if not _place(kind, body, key, value):
            raise InvalidArgument(f"{name} has no setting {key!r}")
    try:
        made: Job[Any] = msgspec.convert(body, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{name}: {error}") from None
    return made


def _takes_list(kind: type[Job[Any]]) -> bool:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    return bool(kind.ARGS) and get_origin(fields[kind.ARGS[-1]].type) is list


def _place(kind: type[Any], body: dict[str, Any], key: str, value: str) -> bool:
    """Put a value where its key belongs; False if it belongs nowhere."""
    fields = msgspec.structs.fields(kind)
    plain = key.lower().replace("_", "").replace("-", "")
    for field in fields:
        if plain in (field.name.replace("_", ""), field.encode_name.lower()):
            body[field.encode_name] = _value(field.type, value)
            return True
    for field in fields:
        inner = _struct_in(field.type)
        if inner is not None:
            nested = body.get(field.encode_name, {})
            if _place(inner, nested, key, value):
                body[field.encode_name] = nested
                return True
    return False


def _struct_in(kind: Any) -> type[Any] | None:
    candidates = get_args(kind) if get_origin(kind) is not None or hasattr(kind, "__args__") else (kind,)
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return candidate
    return None


def _value(kind: Any, text: str) -> Any:
    """A text stays one where a text is wanted; elsewhere it is JSON if it parses."""
    accepted = get_args(kind) if get_origin(kind) is Union or hasattr(kind, "__args__") else (kind,)
    if kind is str or (str in accepted and not text.startswith(("[", "{"))):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def inject(client: Client, job: Job[Any], *, as_json: bool) -> int:
    """Send a job as a program runs: its output to ours, our input to it, its status is returned."""
    sessions: list[threading.Thread] = []

    def note(output: Output) -> None:
        if output.stream == "session":
            sessions.append(_begin_session(msgspec.json.decode(output.text, type=Ticket)))
        else:
            _show_status(output)

    try:
        result = client.call(job, timeout=None, on_status=note)
    except DockyardError as error:
        print(error.message, file=sys.stderr)
        return error.status
    for session in sessions:
        session.join()
    if not sessions or as_json:
        _show_result(result, result_type(type(job)), as_json=as_json)
    return 0


def _begin_session(ticket: Ticket) -> threading.Thread:
    """Talk to a process through its monitor (`RuntimeAttach` tells how); the thread ends when its output does."""
    monitor = redeem_descriptor(ticket)
    threading.Thread(target=_type, args=(monitor,), daemon=True).start()
    reader = threading.Thread(target=_listen, args=(monitor,))
    reader.start()
    return reader


def _type(monitor: socket.socket) -> None:
    try:
        while chunk := os.read(sys.stdin.fileno(), STDIN_CHUNK):
            monitor.send(chunk)
        monitor.shutdown(socket.SHUT_WR)
    except OSError:
        return  # it takes no more


def _listen(monitor: socket.socket) -> None:
    with monitor:
        while True:
            try:
                packet = monitor.recv(CHUNK)
            except ConnectionResetError:
                continue  # closed with input unread: the output before that is still to come
            if not packet:
                return
            target = sys.stderr if packet[0] == STDERR else sys.stdout
            target.buffer.write(packet[1:])
            target.buffer.flush()


def _show_status(output: Output) -> None:
    if output.stream == "ticket":
        ticket = msgspec.json.decode(output.text, type=Ticket)
        threading.Thread(target=_send, args=(redeem(ticket), sys.stdin.buffer), daemon=True).start()
    elif output.stream == "progress":
        message = json.loads(output.text)
        sys.stdout.write(message.get("stream") or f"{output.text}\n")
    elif output.stream in ("stdout", "stderr"):
        (sys.stderr if output.stream == "stderr" else sys.stdout).write(output.text)
    sys.stdout.flush()


def _send(connection: socket.socket, source: BinaryIO) -> None:
    with connection:
        while chunk := source.read(CHUNK):
            connection.sendall(chunk)


def _show_result(result: Any, kind: Any, *, as_json: bool) -> None:
    ticket = result if isinstance(result, Ticket) else getattr(result, "ticket", None)
    if ticket is not None and not as_json:
        _receive(ticket)
    elif result is None and not as_json:
        return
    elif isinstance(result, str) and not as_json:
        print(result)
    elif kind == list[str] and not as_json:
        print("\n".join(result))
    elif isinstance(result, ExecCreated) and not as_json:  # the id, as in 2014
        print(result.id)
    elif hasattr(result, "id") and hasattr(result, "warnings") and not as_json:  # create: the id, as in 2014
        print("\n".join(result.warnings), file=sys.stderr, end="\n" if result.warnings else "")
        print(result.id)
    else:
        print(msgspec.json.format(encode_body(result), indent=2).decode())


def _receive(ticket: Ticket) -> None:
    with redeem(ticket) as connection:
        while chunk := connection.recv(CHUNK):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
