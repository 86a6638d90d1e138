"""Bodies: the JSON of a request as what a job wants, read as Go reads it. All raise InvalidArgument."""

from __future__ import annotations

import json
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec
from flask import request
from msgspec import Struct

from shared.protocol import InvalidArgument

__all__ = ["decode", "json_body"]

T = TypeVar("T")
MAX_BODY = 16 << 20  # bytes
LIMIT = 1 << 63  # Go's integers have 64 bits


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
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(_what_is_wrong(data, error)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument("invalid JSON: an object is wanted")
    return value


def _what_is_wrong(data: bytes, error: Exception) -> str:
    """Tell something behind a good value from a bad value, as moby does."""
    try:
        text = data.decode().lstrip()
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return f"invalid JSON: {error}"
    return "unexpected content after JSON" if text[end:].strip() else f"invalid JSON: {error}"


def decode(value: Any, kind: type[T]) -> T:
    """Convert a body, or a part of it."""
    try:
        return msgspec.convert(_without_nulls(value, kind), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidArgument(f"invalid request: {error}") from None


def _without_nulls(value: Any, kind: Any) -> Any:
    """Drop null members: Go clients write them for all that is not set, so the defaults hold.

    Null in a map is kept where it may be there: ``{"80/tcp": null}`` names a port. Where the type does not say
    whether it is a map or an object, a capital letter does: so begin the API's member names.
    """
    if isinstance(value, int) and not -LIMIT <= value < LIMIT:
        raise InvalidArgument("invalid request: a number has more than 64 bits")
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if isinstance(value, list):
        inner = next((get_args(option)[0] for option in options if get_origin(option) is list), Any)
        return [_without_nulls(entry, inner) for entry in value]
    if not isinstance(value, dict):
        return value
    struct = next((option for option in options if isinstance(option, type) and issubclass(option, Struct)), None)
    if struct is not None:
        types = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
        return {name: _without_nulls(value[name], types[name]) for name in types if value.get(name) is not None}
    inner = next((get_args(option)[1] for option in options if get_origin(option) is dict), Any)
    return {
        name: _without_nulls(entry, inner)
        for name, entry in value.items()
        if entry is not None or NoneType in get_args(inner) or (inner is Any and not name[:1].isupper())
    }
