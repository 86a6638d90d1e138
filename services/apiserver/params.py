"""Parameters: queries and bodies of requests, as typed values. All raise InvalidArgument."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, TypeVar

import msgspec
from flask import request
from werkzeug.exceptions import RequestTimeout

from services.apiserver.spelling import respelled
from services.apiserver.versions import api_version
from shared.protocol import AuthConfig, InvalidArgument

__all__ = [
    "body",
    "boolean",
    "decode",
    "filters",
    "integer",
    "json_body",
    "nanoseconds",
    "platform",
    "platforms",
    "registry_auth",
    "tail",
    "text",
]

T = TypeVar("T")
FALSE = ("", "0", "no", "false", "none")
MAX_BODY = 16 << 20  # bytes of a JSON body
BODY_TIME = 30.0  # seconds of silence in the midst of a JSON body
SHOWN = 200  # characters of a wrong value that an error repeats
INT64 = range(-(2**63), 2**63)
NUMBER = re.compile(r"[+-]?[0-9]{1,19}")


def boolean(name: str, default: bool = False) -> bool:
    """Docker's BoolValue: all but a few words is true."""
    value = request.args.get(name)
    return default if value is None else value.strip().lower() not in FALSE


def text(name: str, default: str = "") -> str:
    return request.args.get(name, default)


def platform(since: tuple[int, int]) -> str:
    """Return ``platform`` as os/architecture[/variant], or nothing. ``since``: older clients know of none."""
    found = platforms("platform", since)
    if len(found) > 1:
        raise InvalidArgument("multiple platform parameters not supported")
    return found[0] if found else ""


def platforms(name: str, since: tuple[int, int]) -> list[str]:
    """Return platforms that come as JSON (OCI image-spec 1.1, index §platform), or as text."""
    given = request.args.getlist(name) if api_version() >= since else []
    return [_platform(value) if value.lstrip().startswith("{") else value for value in given if value]


def _platform(value: str) -> str:
    try:
        found = msgspec.json.decode(value, type=_Platform)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"failed to parse platform: {error}") from None
    if not found.os or not found.architecture:
        raise InvalidArgument("both OS and Architecture must be provided")
    return "/".join(filter(None, [found.os, found.architecture, found.variant]))


class _Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


def integer(name: str, default: int = 0) -> int:
    value = request.args.get(name, "")
    if value == "":
        return default
    if not NUMBER.fullmatch(value) or int(value) not in INT64:
        raise InvalidArgument(f"invalid value for {name}: {_short(value)} is not an integer of 64 bits")
    return int(value)


def required_integer(name: str) -> int:
    if request.args.get(name, "") == "":
        raise InvalidArgument(f"invalid value for {name}: '' is not an integer of 64 bits")
    return integer(name)


def _short(value: str) -> str:
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}…")


def nanoseconds(name: str) -> int:
    """A time as ``seconds[.fraction]`` since the epoch, exact to nine digits; 0 where it is not given, 1 before it."""
    value = request.args.get(name, "") or "0"
    whole, _, fraction = value.partition(".")
    if not re.fullmatch(r"-?\d{1,11}", whole, re.ASCII) or not re.fullmatch(r"\d{0,99}", fraction, re.ASCII):
        raise InvalidArgument(f"invalid value for {name}: {_short(value)} is not a timestamp")
    found = 1 if whole.startswith("-") else int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    if found >= 1 << 63:
        raise InvalidArgument(f"invalid value for {name}: {_short(value)} is beyond the year 2262")
    return found


def tail() -> int:
    """So many lines from the end; -1, for all, if it is not a number."""
    lines = text("tail")
    return int(lines) if re.fullmatch(r"\d{1,18}", lines, re.ASCII) else -1


def filters(name: str = "filters") -> dict[str, list[str]]:
    """Both forms: ``{"label": {"a=b": true}}`` and ``{"label": ["a=b"]}``; null is Go's empty map."""
    value = request.args.get(name, "")
    if value in ("", "null"):
        return {}
    try:
        given = json.loads(value)
        _check_text(value, given)
        return {key: _values(entry) for key, entry in given.items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise InvalidArgument(f"invalid filter: {_short(value)}") from None


def _values(entry: Any) -> list[str]:
    values = [key for key, on in (entry or {}).items() if on] if isinstance(entry, dict | None) else entry
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("filter values are strings")
    return values


def body(limit: int, too_long: str = "request body too large") -> bytes:
    """Return the request's body. Errors: InvalidArgument (longer than ``limit`` bytes, or not all came), 408."""
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(BODY_TIME)
    try:
        data: bytes = request.stream.read(limit + 1)
    except TimeoutError:
        raise RequestTimeout("the request body did not come in time") from None
    finally:
        if connection is not None:
            connection.settimeout(None)
    if len(data) > limit:
        raise InvalidArgument(too_long)
    if len(data) < (request.content_length or 0):
        raise InvalidArgument("unexpected end of the request body")
    return data


def json_body() -> dict[str, Any]:
    """Return the body's object; an absent body is an empty one."""
    data = body(MAX_BODY)
    if not data:
        return {}
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidArgument(f"unsupported Content-Type header ({kind[:SHOWN]}): must be 'application/json'")
    try:
        text = data.decode().lstrip()
        value, end = JSON.raw_decode(text)
        _check_text(text, value)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid JSON: {error}") from None
    if text[end:].strip():
        raise InvalidArgument("unexpected content after JSON")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument("invalid JSON: an object is wanted")
    return value


def _integer(digits: str) -> int:
    if not NUMBER.fullmatch(digits) or int(digits) not in INT64:
        raise ValueError(f"{digits[:SHOWN]} is out of range")
    return int(digits)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


JSON = json.JSONDecoder(parse_int=_integer, parse_constant=_no_number)


def _check_text(text: str, value: Any) -> None:
    """Raise ValueError for halves of surrogate pairs: Python reads them, UTF-8 has none."""
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()


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
    """Return a JSON value as a ``kind``, whatever the case of its names; members that it does not have are ignored.

    null is an empty object.
    """
    try:
        return msgspec.convert(respelled({} if value is None else drop_nulls(value), kind), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidArgument(f"invalid request: {error}") from None
