"""Parameters: the query of a request as typed values. All raise InvalidArgument."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from flask import request

from shared.protocol import InvalidArgument

__all__ = ["boolean", "filters", "integer", "seconds", "tail", "text"]

FALSE = ("", "0", "no", "false", "none")
INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
LIMIT = 1 << 63  # Go's integers have 64 bits
LAST_SECOND = LIMIT // 10**9  # times are kept in nanoseconds


def boolean(name: str, default: bool = False) -> bool:
    """Docker's BoolValue: all but a few words is true."""
    value = request.args.get(name)
    return default if value is None else value.strip().lower() not in FALSE


def text(name: str, default: str = "") -> str:
    return request.args.get(name, default)


def integer(name: str, default: int = 0) -> int:
    value = request.args.get(name, "")
    if value == "":
        return default
    if INTEGER.fullmatch(value) is None or not -LIMIT <= int(value) < LIMIT:
        raise InvalidArgument(f"invalid value for {name}: {value[:40]!r} is not a 64-bit integer")
    return int(value)


def tail(name: str = "tail") -> int:
    """How many lines from the end; -1, all, where it is no number (moby does the same)."""
    value = request.args.get(name, "")
    return int(value) if INTEGER.fullmatch(value) and 0 <= int(value) < LIMIT else -1


def seconds(name: str) -> float:
    """A time as ``seconds[.fraction]`` since the epoch; 0 where it is not given."""
    value = request.args.get(name, "")
    try:
        moment = float(value or 0)
    except ValueError:
        raise InvalidArgument(f"invalid value for {name}: {value[:40]!r} is not a timestamp") from None
    if not 0 <= moment < LAST_SECOND:
        raise InvalidArgument(f"invalid value for {name}: {value[:40]!r} is out of range")
    return moment


def filters(name: str = "filters") -> dict[str, list[str]]:
    """Both forms: ``{"label": {"a=b": true}}`` and ``{"label": ["a=b"]}``."""
    value = request.args.get(name, "")
    if not value:
        return {}
    try:
        given = msgspec.json.decode(value)
        return {key: _values(entry) for key, entry in given.items()}
    except (msgspec.DecodeError, AttributeError, TypeError, RecursionError):
        raise InvalidArgument(f"invalid filter: {value[:200]!r}") from None


def _values(entry: Any) -> list[str]:
    values = [key for key, on in entry.items() if on] if isinstance(entry, dict) else entry
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("filter values are strings")
    return values
