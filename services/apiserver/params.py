"""Parameters: queries and bodies of requests, as typed values. All raise InvalidArgument."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, TypeVar

import msgspec
from flask import request

from services.apiserver.spelling import respelled
from shared.protocol import AuthConfig, InvalidArgument

__all__ = ["boolean", "decode", "filters", "integer", "json_body", "nanoseconds", "registry_auth", "seconds", "text"]

T = TypeVar("T")
FALSE = ("", "0", "no", "false", "none")
MAX_BODY = 16 << 20  # bytes of a JSON body


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
    try:
        return int(value)
    except ValueError:
        raise InvalidArgument(f"invalid value for {name}: {value!r} is not an integer") from None


def seconds(name: str) -> float:
    """A time as ``seconds[.fraction]`` since the epoch; 0 where it is not given."""
    value = request.args.get(name, "")
    try:
        moment = float(value or 0)
    except ValueError:
        raise InvalidArgument(f"invalid value for {name}: {value!r} is not a timestamp") from None
    if not 0 <= moment < 1e11:
        raise InvalidArgument(f"invalid value for {name}: {value!r} is out of range")
    return moment


def nanoseconds(name: str) -> int:
    """A time as ``seconds[.fraction]`` since the epoch, exact; 0 where it is not given."""
    value = request.args.get(name, "") or "0"
    whole, _, fraction = value.partition(".")
    if not re.fullmatch(r"\d{1,10}", whole) or not re.fullmatch(r"\d{0,9}", fraction):
        raise InvalidArgument(f"invalid value for {name}: {value!r} is not a timestamp")
    return int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0"))


def filters(name: str = "filters") -> dict[str, list[str]]:
    """Both forms: ``{"label": {"a=b": true}}`` and ``{"label": ["a=b"]}``."""
    value = request.args.get(name, "")
    if not value:
        return {}
    try:
        given = json.loads(value)
        return {key: _values(entry) for key, entry in given.items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise InvalidArgument(f"invalid filter: {value[:200]!r}") from None


def _values(entry: Any) -> list[str]:
    values = [key for key, on in entry.items() if on] if isinstance(entry, dict) else entry
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("filter values are strings")
    return values


def json_body() -> dict[str, Any]:
    """Return the body's object; an absent body is an empty one."""
    data = request.stream.read(MAX_BODY + 1)
    if len(data) > MAX_BODY:
        raise InvalidArgument("request body too large")
    if not data:
        return {}
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidArgument(f"unsupported Content-Type header ({kind}): must be 'application/json'")
    try:
        value, end = json.JSONDecoder().raw_decode(data.decode().lstrip())
        if data.decode().lstrip()[end:].strip():
            raise InvalidArgument("unexpected content after JSON")
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid JSON: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument("invalid JSON: an object is wanted")
    return value


def registry_auth() -> AuthConfig:
    """The X-Registry-Auth header: base64 of JSON, either alphabet, padded or not; what cannot be read is nobody."""
    text = request.headers.get("X-Registry-Auth", "").replace("-", "+").replace("_", "/")
    try:
        return msgspec.json.decode(base64.b64decode(text + "=" * (-len(text) % 4)), type=AuthConfig)
    except (ValueError, msgspec.DecodeError):
        return AuthConfig()


def drop_nulls(value: Any) -> Any:
    """Go clients write null for everything that is not set: without it, the defaults hold."""
    if isinstance(value, dict):
        return {key: drop_nulls(entry) for key, entry in value.items() if entry is not None}
    return [drop_nulls(entry) for entry in value] if isinstance(value, list) else value


def decode(value: Any, kind: type[T]) -> T:
    """Return a JSON value as a ``kind``, whatever the case of its names; members that it does not have are ignored."""
    try:
        return msgspec.convert(respelled(drop_nulls(value), kind), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidArgument(f"invalid request: {error}") from None
