"""Usage: `dockyard job NAME --help`, made from the job's type; and the list of all jobs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.inspect import Field, ListType, StructType, Type, type_info

from services.ctl import table
from services.ctl.shapes import comments, default_text, fields_of, normal, settings_of, struct_in, takes_list, type_text
from shared.protocol import Job, ServiceStatus, catalogue, job_name, job_type, result_type

__all__ = ["NOBODY", "arguments", "holder", "job_list", "job_usage"]

INDENT = "  "
ENGINE = "engine"
NOBODY = "no process at present"
Path = tuple[str, ...]  # the names of a field and of those it is inside of


def job_list() -> str:
    """Return every job with the first sentence about it."""
    rows = [(INDENT + name, _first_sentence(kind)) for name, kind in sorted(catalogue().items())]
    return "\n".join(["Jobs (`dockyard job help NAME` tells more of one):", *table.lines(("", ""), rows)[1:]])


def _first_sentence(kind: type[Job[Any]]) -> str:
    return " ".join(_text(kind).split()).partition(". ")[0].rstrip(".")


def holder(name: str, commands: Iterable[str], services: Iterable[ServiceStatus]) -> str:
    """Say which processes offer a job at present."""
    holders = [f"{service.service}[{service.pid}]" for service in services if name in service.names]
    if not holders and name in commands:
        holders = [f"{service.service}[{service.pid}]" for service in services if service.service == ENGINE]
    return ", ".join(holders) or NOBODY


def job_usage(name: str, held_by: str) -> str:
    """Return all that can be said of a job. Errors: JobNotFound."""
    if name not in catalogue() and held_by != NOBODY:
        return FOREIGN.format(name, held_by)
    kind = job_type(name)
    named = [field for word in kind.ARGS for field in fields_of(kind) if field.name == word]
    parts = [
        [_usage(kind, named)],
        [f"{INDENT}{line}".rstrip() for line in (_text(kind) or "(no more is said of it)").splitlines()],
        _section("Arguments:", [_row(field, field.name.upper(), comments(kind), 1) for field in named]),
        _section("Settings, each as --env KEY=VALUE:", _settings(kind, named)),
        _section(f"Result: {_result_name(result_type(kind))}", _result_rows(result_type(kind)), always=True),
        [f"Held by: {held_by}"],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _text(kind: type[Any]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").replace("``", "")


FOREIGN = """\
Usage: dockyard job {} [--env KEY=VALUE]… [--timeout SECONDS] [--json]

  (a job of a driver that is not ours: what it takes, its makers say)

Held by: {}"""


def arguments(kind: type[Job[Any]]) -> list[str]:
    """Return the words that a job takes, as ``CONTAINER [SIGNAL]``."""
    required = {field.name: field.required for field in fields_of(kind)}
    words = [word.upper() if required[word] else f"[{word.upper()}]" for word in kind.ARGS]
    if takes_list(kind):
        words[-1] += "…"
    return words


def _usage(kind: type[Job[Any]], named: list[Field]) -> str:
    words = arguments(kind)
    more = ["[--env KEY=VALUE]…"] if len(fields_of(kind)) > len(named) else []
    return " ".join(["Usage: dockyard job", job_name(kind), *words, *more, "[--timeout SECONDS]", "[--json]"])


def _section(title: str, rows: list[tuple[str, ...]], *, always: bool = False) -> list[str]:
    return [title, *table.lines(("", "", "", ""), rows)[1:]] if rows or always else []


def _settings(kind: type[Job[Any]], named: list[Field]) -> list[tuple[str, ...]]:
    meant: dict[str, Path] = {}
    for path in settings_of(fields_of(kind)):
        meant.setdefault(normal(path[-1].encode_name), tuple(field.name for field in path))
    rest = tuple(field for field in fields_of(kind) if field not in named)
    return list(_setting_rows(rest, kind, set(meant.values()), ()))


def _setting_rows(
    fields: tuple[Field, ...], kind: type[Any], meant: set[Path], above: Path
) -> Iterator[tuple[str, ...]]:
    """Yield a row a setting, below a struct those inside it; not those whose key means another setting."""
    notes = comments(kind)
    for field in fields:
        path = (*above, field.name)
        if path in meant:
            yield _row(field, field.encode_name, notes, len(path))
        if (inner := struct_in(field.type)) is not None:
            yield from _setting_rows(inner.fields, inner.cls, meant, path)


def _row(field: Field, key: str, notes: dict[str, str], depth: int) -> tuple[str, ...]:
    default = "required" if field.required else default_text(field)
    inner = struct_in(field.type)
    note = notes.get(field.name) or (" ".join(_text(inner.cls).split()) if inner is not None else "")
    return INDENT * depth + key, type_text(field.type), default, note


def _result_name(kind: Any) -> str:
    return "nothing" if kind in (None, type(None)) else type_text(type_info(kind))


def _result_rows(kind: Any) -> list[tuple[str, ...]]:
    shape: Type = type_info(kind)
    inner = shape.item_type if isinstance(shape, ListType) else shape
    if not isinstance(inner, StructType):
        return []
    notes = comments(inner.cls)
    return [(INDENT + f.encode_name, type_text(f.type), "", notes.get(f.name, "")) for f in inner.fields]
