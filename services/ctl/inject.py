"""`dockyard job`: any job, from words on a command line."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
from msgspec.inspect import Field

from services.ctl import usage
from services.ctl.shapes import fields_of, is_list, normal, settings_of, takes_list, takes_text
from services.ctl.streams import Streams, has_stream
from shared.bus.bus import Bus, OnStatus
from shared.bus.client import Client
from shared.protocol import (
    ContainerCreated,
    ContainerExit,
    ContainerLogs,
    DockyardError,
    ExecCreated,
    ExecStarted,
    InvalidArgument,
    Job,
    LogStream,
    Output,
    PathArchive,
    Ping,
    ReadEvents,
    Ticket,
    Unavailable,
    encode_body,
    job_name,
    job_type,
    result_type,
)
from shared.runtime.following import follow
from shared.runtime.logs.selection import Selection, selection_of
from shared.runtime.logs.stream import stream_log

__all__ = ["build_body", "build_job", "follow_events", "inject", "inject_foreign", "report"]

FLUSH_TIMEOUT = 1.0  # seconds
OVERTIME = 0.1  # seconds over a job's deadline that its own answer is waited for


def build_job(name: str, arguments: list[str], environment: list[str]) -> Job[Any]:
    """Make a job from positional words (`Job.ARGS`) and ``K=V`` pairs. Errors: JobNotFound, InvalidArgument.

    A key is a field, in any case and in the wire's or in our spelling; one that the job itself lacks is looked for
    in its structured fields (``Image=busybox`` of `create` is ``config.Image``).
    """
    kind = job_type(name)
    body: dict[str, Any] = dict(zip(kind.ARGS, arguments, strict=False))
    if takes_list(kind):
        body[kind.ARGS[-1]] = arguments[len(kind.ARGS) - 1 :]
    elif len(arguments) > len(kind.ARGS):
        raise _misused(kind)
    for key, value in map(_split, environment):
        if not _place(kind, body, key, value):
            raise InvalidArgument(f"{name} has no setting {key!r}")
    if any(field.required and field.name in kind.ARGS and not body.get(field.name) for field in fields_of(kind)):
        raise _misused(kind)
    try:
        made: Job[Any] = msgspec.convert(body, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{name}: {error}") from None
    return made


def _misused(kind: type[Job[Any]]) -> InvalidArgument:
    return InvalidArgument(" ".join(["usage:", job_name(kind), *usage.arguments(kind)]))


def _place(kind: type[Any], body: dict[str, Any], key: str, value: str) -> bool:
    """Put a value where its key belongs; False if it belongs nowhere."""
    for *above, field in settings_of(fields_of(kind)):
        if normal(key) in (normal(field.name), normal(field.encode_name)):
            for outer in above:
                if not isinstance(body.get(outer.encode_name), dict):
                    body[outer.encode_name] = {}
                body = body[outer.encode_name]
            body[field.encode_name] = _value(field, value)
            return True
    return False


def _split(pair: str) -> tuple[str, str]:
    key, separator, value = pair.partition("=")
    if not separator:
        raise InvalidArgument(f"--env wants K=V, not {pair!r}")
    return key, value


def _value(field: Field, text: str) -> Any:
    """A text stays one where a text is wanted; elsewhere it is JSON if it parses. A list of one may be that one."""
    if takes_text(field.type, text):
        return text
    value = _json(text)
    return [text] if is_list(field.type) and not isinstance(value, list) and value is not None else value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def build_body(arguments: list[str], environment: list[str]) -> bytes:
    """Make the body of a job whose type we do not have, of a driver of one's own: JSON of the ``K=V`` pairs.

    Errors: InvalidArgument.
    """
    if arguments:
        raise InvalidArgument(
            f"what {arguments[0]!r} means to a job that is not ours is not known: use --env KEY=VALUE"
        )
    return encode_body({key: _json(value) for key, value in map(_split, environment)})


def inject(
    client: Bus, job: Job[Any], *, as_json: bool, timeout: float | None = None, streams: Streams | None = None
) -> int:
    """Send a job as a program runs: its output to ours, our input to it; returns the exit status.

    ``timeout``: seconds until the job's deadline, which is its output's too. SIGINT (KeyboardInterrupt) and SIGTERM
    (SystemExit) cancel the job.
    """
    streams, kind = streams or Streams(), result_type(type(job))

    def call(on_status: OnStatus) -> Any:
        if kind in (Ticket, PathArchive) and not as_json:
            streams.refuse_terminal()
        return client.call(job, timeout=timeout, on_status=on_status)

    with _deadline(job_name(job), timeout):
        return _run(client, call, kind, as_json=as_json, streams=streams, read_log=partial(_read_log, client, job))


class _Expired(DockyardError):
    """The job's time is over: nothing is asked again, and whoever is at its streams is not waited for."""

    code = Unavailable.code


@contextlib.contextmanager
def _deadline(name: str, timeout: float | None) -> Iterator[None]:
    """Raise _Expired inside when a job's time is over: its answer may have come, and its output have no end."""
    if timeout is None:
        yield
        return

    def expire(_number: int, _frame: object) -> None:
        raise _Expired(f"{name}: not done before the deadline")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, timeout + OVERTIME)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def follow_events(client: Bus, asked: ReadEvents, *, timeout: float | None = None) -> int:
    """Write events as they come, a line of JSON each, as 2014's `events` did; returns the exit status.

    From now on, unless ``since`` or ``after`` says otherwise; to ``until``, or without end.
    """
    streams = Streams()

    def show(_: OnStatus) -> None:
        newest = [] if asked.since or asked.after else client.call(ReadEvents(after=-1))
        begin = newest[0].seq if newest else asked.after
        for event in follow(client.call, msgspec.structs.replace(asked, after=begin)):
            streams.out(encode_body(event) + b"\n")

    with _deadline(job_name(asked), timeout):
        return _run(client, show, type(None), as_json=False, streams=streams)


def _read_log(client: Bus, job: Job[Any], stream: LogStream) -> Iterator[bytes]:
    """Read what `ContainerLogs` asked for, or all that there was before an attach."""
    if isinstance(job, ContainerLogs):
        return stream_log(client, stream, selection_of(job, stream), follow=job.follow)
    return stream_log(client, stream, Selection(tty=stream.tty))


def inject_foreign(client: Client, name: str, body: bytes, *, as_json: bool, timeout: float | None = None) -> int:
    """Send a job whose type we do not have; else as `inject`."""

    def call(on_status: OnStatus) -> Any:
        return msgspec.json.decode(client.call_raw(name, body, timeout=timeout, on_status=on_status))

    return _run(client, call, Any, as_json=as_json, streams=Streams())


def _run(
    client: Bus,
    call: Callable[[OnStatus], Any],
    kind: Any,
    *,
    as_json: bool,
    streams: Streams,
    read_log: Callable[[LogStream], Iterator[bytes]] = lambda stream: iter(()),
) -> int:
    try:
        result = call(partial(_show_status, streams, as_json))
        if kind is not ExecStarted:
            streams.end_sessions()
        if has_stream(result) and not as_json:
            streams.receive(result, read_log)
        else:
            _show_result(streams, result, kind, as_json=as_json)
    except _Expired as error:
        return report(error, as_json=as_json, streams=streams)
    except DockyardError as error:
        streams.end_sessions()
        return report(error, as_json=as_json, streams=streams)
    except (KeyboardInterrupt, SystemExit) as stop:
        _flush(client)
        return 128 + signal.SIGINT if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0)
    return 0


def report(error: DockyardError, *, as_json: bool, streams: Streams | None = None) -> int:
    """Write an error as a line or as JSON to stderr; returns the job's status."""
    shown = {"code": error.code, "message": error.message, "status": error.status}
    (streams or Streams()).err(f"{json.dumps(shown, ensure_ascii=False) if as_json else error.message}\n")
    return error.status


def _flush(client: Bus) -> None:
    """See to it that the CANCEL that was sent has arrived: frames overtake no others."""
    with contextlib.suppress(DockyardError):
        client.call(Ping(), timeout=FLUSH_TIMEOUT)


def _show_status(streams: Streams, as_json: bool, output: Output) -> None:
    """What a job says on its way; with ``as_json``, stdout has the result and nothing else."""
    out = streams.err if as_json else streams.out
    if output.stream == "ticket":
        streams.send(msgspec.json.decode(output.text, type=Ticket))
    elif output.stream == "session":
        streams.begin_session(msgspec.json.decode(output.text, type=Ticket))
    elif output.stream == "progress":
        out(_shown(output.text))
    elif output.stream == "output":
        streams.begin_output(msgspec.json.decode(output.text, type=Ticket), lambda line: out(_shown(line.rstrip("\n"))))
    elif output.stream in ("stdout", "stderr"):
        (streams.err if output.stream == "stderr" else out)(output.text)


def _shown(message: str) -> str:
    """Return one of Docker's JSON messages as a person reads it; the result and the error are told elsewhere."""
    fields = json.loads(message)
    if "stream" in fields:
        return str(fields["stream"])
    return "" if {"aux", "errorDetail"} & set(fields) else f"{message}\n"


def _show_result(streams: Streams, result: Any, kind: Any, *, as_json: bool) -> None:
    if as_json:
        streams.out(msgspec.json.format(encode_body(result), indent=2) + b"\n")
    elif isinstance(result, ContainerCreated):  # the id, as in 2014
        streams.err("".join(f"{warning}\n" for warning in result.warnings))
        streams.out(f"{result.id}\n")
    elif isinstance(result, ExecCreated):
        streams.out(f"{result.id}\n")
    elif isinstance(result, ExecStarted):
        streams.end_sessions()
    elif isinstance(result, ContainerExit):
        streams.out(f"{result.status_code}\n")
    elif isinstance(result, str):
        streams.out(f"{result}\n")
    elif kind == list[str]:
        streams.out("".join(f"{line}\n" for line in result))
    elif result is not None:
        streams.out(msgspec.json.format(encode_body(result), indent=2) + b"\n")
