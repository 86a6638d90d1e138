"""A job: a typed request whose type says what comes back.

``class KillContainer(Job[None], tag="kill")`` is the whole specification of the job ``kill``: its fields, their
types, and, by the type argument, its result. Jobs and results are msgspec Structs; their JSON is the wire form.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import msgspec

from shared.protocol.errors import InvalidArgument, JobNotFound

__all__ = [
    "Data",
    "Job",
    "Record",
    "call_arguments",
    "catalogue",
    "decode_job",
    "job_name",
    "job_type",
    "result_type",
]

R = TypeVar("R")


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A value inside a job or a result, in dockyard's own spelling (snake_case).

    What is as by default is left out: in an upgrade a process that does not know a new member yet refuses none that is
    not used.
    """


class Record(msgspec.Struct, kw_only=True, rename="pascal"):
    """A value spelled as the Docker Engine API spells it (PascalCase); unknown members are ignored, as Docker does."""


class Job(
    msgspec.Struct,
    Generic[R],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="job",
):
    """Base of all jobs. ``ARGS`` names the fields that ``dockyard job NAME ARG…`` fills by position.

    ``REPEATABLE``: a job whose answer was lost with a process may be asked again under its id (`Header.again`): it is
    not done twice.
    """

    ARGS: ClassVar[tuple[str, ...]] = ()
    REPEATABLE: ClassVar[bool] = False


def job_name(job: Job[Any] | type[Job[Any]]) -> str:
    """Return the name under which the job travels."""
    return str(job.__struct_config__.tag)


def catalogue() -> dict[str, type[Job[Any]]]:
    """Return every job type that has been defined, by name."""
    found: dict[str, type[Job[Any]]] = {}
    pending = list(Job.__subclasses__())
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind.__struct_config__.tag is not None:
            found[job_name(kind)] = kind
    return found


_known: dict[str, type[Job[Any]]] = {}
_seen = 0  # how many types there were when `_known` was filled


def job_type(name: str) -> type[Job[Any]]:
    """Return the type of the job NAME; raises JobNotFound."""
    kind = _find(name)
    if kind is None:
        raise JobNotFound(f"{name}: command not found")
    return kind


def _find(name: str) -> type[Job[Any]] | None:
    global _seen  # noqa: PLW0603
    if name not in _known and _seen != (there := len(Job.__subclasses__())):
        _known.update(catalogue())
        _seen = there
    return _known.get(name)


def call_arguments(name: str, body: bytes) -> str:
    """Return the arguments of a job's call string, as ``web, SIGTERM``; empty for what cannot be read."""
    kind = _find(name)
    if kind is None or not kind.ARGS:
        return ""
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        words = [msgspec.json.decode(fields[word]) for word in kind.ARGS if word in fields]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return ", ".join(", ".join(map(str, word)) if isinstance(word, list) else str(word) for word in words)[:200]


def result_type(kind: type[Job[Any]]) -> Any:
    """Return what the job's type says comes back (``None`` for nothing)."""
    for base in getattr(kind, "__orig_bases__", ()):
        if get_origin(base) is Job:
            (result,) = get_args(base)
            return result
    raise TypeError(f"{kind.__name__} does not derive from Job[…]")


def decode_job(name: str, body: bytes) -> Job[Any]:
    """Decode the body of a JOB frame; raises JobNotFound or InvalidArgument, and nothing else."""
    kind = job_type(name)
    try:
        job: Job[Any] = msgspec.json.decode(body, type=kind)
        return job
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"{name}: {error}") from None
