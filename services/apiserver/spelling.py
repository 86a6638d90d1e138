"""Spelling: members of a JSON body are found whatever their case, as Go's encoding/json finds them.

docker-py says ``detachKeys`` where the API has ``DetachKeys``. Keys of maps (labels, volumes, options) stay as given.
"""

from __future__ import annotations

import functools
from typing import Any

from msgspec.inspect import DictType, ListType, StructType, Type, UnionType, type_info

__all__ = ["member", "respelled"]


def member(body: dict[str, Any], name: str) -> Any:
    """Return a member of an object by its name, None if it has none; the exact spelling wins."""
    if name in body:
        return body[name]
    return next((value for key, value in body.items() if key.lower() == name.lower()), None)


def respelled(value: Any, kind: Any) -> Any:
    """Return a decoded JSON value with the members of its structs spelled as those of ``kind``, a Struct."""
    return _respelled(value, _shape(kind))


@functools.cache
def _shape(kind: Any) -> Type:
    return type_info(kind)


def _respelled(value: Any, shape: Type) -> Any:
    if isinstance(shape, UnionType):
        shape = next((choice for choice in shape.types if _holds(value, choice)), shape)
    if isinstance(value, dict) and isinstance(shape, StructType):
        fields = {field.encode_name.lower(): field for field in shape.fields}
        exact = {field.encode_name for field in shape.fields}
        made: dict[str, Any] = {}
        for key in sorted(value, key=lambda key: key in exact):
            field = fields.get(key.lower())
            if field is not None:
                made[field.encode_name] = _respelled(value[key], field.type)
            else:
                made[key] = value[key]
        return made
    if isinstance(value, dict) and isinstance(shape, DictType):
        return {key: _respelled(entry, shape.value_type) for key, entry in value.items()}
    if isinstance(value, list) and isinstance(shape, ListType):
        return [_respelled(entry, shape.item_type) for entry in value]
    return value


def _holds(value: Any, shape: Type) -> bool:
    if isinstance(value, dict):
        return isinstance(shape, StructType | DictType)
    return isinstance(value, list) and isinstance(shape, ListType)
