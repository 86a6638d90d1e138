"""Shapes: the fields of a job's or a result's type, as `dockyard job` takes them and its help shows them."""

from __future__ import annotations

import inspect
import io
import tokenize
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.inspect import (
    AnyType,
    BoolType,
    DictType,
    Field,
    FloatType,
    IntType,
    ListType,
    LiteralType,
    NoneType,
    StrType,
    StructType,
    Type,
    UnionType,
    type_info,
)

from shared.protocol import Job

__all__ = [
    "comments",
    "default_text",
    "fields_of",
    "is_list",
    "normal",
    "settings_of",
    "struct_in",
    "takes_list",
    "takes_text",
    "type_text",
]

WORDS: dict[type[Type], str] = {
    AnyType: "JSON",
    BoolType: "true or false",
    FloatType: "number",
    IntType: "integer",
    NoneType: "null",
    StrType: "text",
}


def fields_of(kind: type[Any]) -> tuple[Field, ...]:
    """Return the fields of a Struct."""
    shape = type_info(kind)
    return shape.fields if isinstance(shape, StructType) else ()


def _choices(shape: Type) -> tuple[Type, ...]:
    return shape.types if isinstance(shape, UnionType) else (shape,)


def struct_in(shape: Type) -> StructType | None:
    """Return the Struct that a value of this type is, or may be besides null."""
    return next((choice for choice in _choices(shape) if isinstance(choice, StructType)), None)


def takes_list(kind: type[Job[Any]]) -> bool:
    """Say whether a job's last argument takes all words that are left."""
    types = {field.name: field.type for field in fields_of(kind)}
    return bool(kind.ARGS) and isinstance(types[kind.ARGS[-1]], ListType)


def is_list(shape: Type) -> bool:
    """Say whether a value of this type is a list, or may be besides null."""
    return any(isinstance(choice, ListType) for choice in _choices(shape))


def takes_text(shape: Type, text: str) -> bool:
    """Say whether a word on a command line is meant as text, and not as JSON."""
    if isinstance(shape, UnionType):
        return any(isinstance(choice, StrType) for choice in shape.types) and not text.startswith(("[", "{"))
    return isinstance(shape, StrType)


def normal(key: str) -> str:
    """Return what all spellings of a key have in common."""
    return key.lower().replace("_", "").replace("-", "")


def settings_of(fields: tuple[Field, ...], path: tuple[Field, ...] = ()) -> Iterator[tuple[Field, ...]]:
    """Yield every field that a ``K=V`` may mean, as the path to it: those of a struct before those inside them.

    The first whose last field has the key is the one that is meant.
    """
    for field in fields:
        yield (*path, field)
    for field in fields:
        if (inner := struct_in(field.type)) is not None:
            yield from settings_of(inner.fields, (*path, field))


def type_text(shape: Type) -> str:
    """Describe a type in words: ``list of text or null``."""
    if isinstance(shape, UnionType):
        return " or ".join(map(type_text, sorted(shape.types, key=lambda choice: isinstance(choice, NoneType))))
    if isinstance(shape, ListType):
        return f"list of {type_text(shape.item_type)}"
    if isinstance(shape, DictType):
        return f"map of {type_text(shape.key_type)} to {type_text(shape.value_type)}"
    if isinstance(shape, StructType):
        return str(shape.cls.__name__)
    if isinstance(shape, LiteralType):
        return " or ".join(map(repr, shape.values))
    return WORDS.get(type(shape), type(shape).__name__.removesuffix("Type").lower())


def default_text(field: Field) -> str:
    """Return a field's default as JSON; nothing if there is none, or if it is a Struct's, whose fields have theirs."""
    if field.default is not msgspec.NODEFAULT:
        return msgspec.json.encode(field.default).decode()
    if field.default_factory is msgspec.NODEFAULT or isinstance(field.type, StructType):
        return ""
    return msgspec.json.encode(field.default_factory()).decode()


def comments(kind: type[Any]) -> dict[str, str]:
    """Return what stands behind the fields of a class in its source, by field; units are told there."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return {}
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(inspect.cleandoc(source)).readline):
        name, separator, _ = token.line.partition(":")
        if token.type == tokenize.COMMENT and separator and name.strip().isidentifier():
            found[name.strip()] = token.string.removeprefix("#").strip()
    return found
