"""Whether an answer is what the specification says: status, content type, schema of the body; and of each JSON line.

Swagger 2.0's schemas are JSON Schema draft 4 with ``x-nullable``. Go, whose clients these are, writes null for an empty
list or map and reads it as one: so null is one here, wherever an array or an object is described.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

__all__ = ["Operation", "operation_of", "operations", "violations"]

FILE = Path(__file__).with_name("engine-api-1.51.json")
METHODS = ("get", "head", "post", "put", "delete")
VERSION = re.compile(r"^/v[0-9.]+(?=/)")
STREAMS = {  # each answers a sequence of JSON values; the specification describes one, or none
    "/events": "EventMessage", "/containers/{id}/stats": "ContainerStatsResponse", "/images/create": "",
    "/images/{name}/push": "", "/images/load": "", "/build": "",
}  # fmt: skip
# What Docker's own engine answers as null where the specification does not say so, and all clients read it.
NULLABLE = (
    "definitions Resources properties MemorySwappiness",  # unset: `*int64` without omitempty
    "definitions Resources properties OomKillDisable",  # likewise
    "paths /exec/{id}/json get responses 200 schema properties ExitCode",  # of one that has not ended
)
UNLISTED = {"POST /exec/{id}/start": {"101"}}  # the upgrade, which attach has
# Statuses of any endpoint, which the specification lists for some: what is asked wrongly, of what is away, or refused.
ANYWHERE = {"400", "401", "403", "404", "409", "500", "501", "503"}


@dataclass(frozen=True)
class Operation:
    """One method of one path; ``responses``: by status, as the specification has them."""

    method: str
    path: str
    responses: dict[str, Any]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Names of images and plugins may contain slashes."""
        parts = (".+" if part == "{name}" else "[^/]+" if part.startswith("{") else re.escape(part)
                 for part in self.path.split("/"))  # fmt: skip
        return re.compile("/".join(parts))


@cache
def document() -> dict[str, Any]:
    specification: dict[str, Any] = json.loads(FILE.read_text())
    for path in NULLABLE:
        reduce(getitem, path.split(), specification)["x-nullable"] = True
    return specification


@cache
def operations() -> tuple[Operation, ...]:
    return tuple(
        Operation(method.upper(), path, described["responses"])
        for path, methods in document()["paths"].items()
        for method, described in methods.items()
        if method in METHODS
    )


def operation_of(method: str, path: str) -> Operation | None:
    """Return what a request asks for; the most literal path wins, as ``/images/json`` before ``/images/{name}``."""
    path = VERSION.sub("", path.partition("?")[0]).rstrip("/")
    found = [one for one in operations() if one.method == method and one.pattern.fullmatch(path)]
    return min(found, key=lambda one: one.path.count("{"), default=None)


def nullable(schema: Any) -> Any:
    """Return a schema of Swagger as one of JSON Schema."""
    if isinstance(schema, list):
        return [nullable(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: nullable(entry) for key, entry in schema.items() if key != "x-nullable"}
    kind = made.get("type")
    if isinstance(kind, str) and (schema.get("x-nullable") or kind in ("array", "object")):
        made["type"] = [kind, "null"]
        if "enum" in made and schema.get("x-nullable"):
            made["enum"] = [*made["enum"], None]
    if schema.get("x-nullable") and ("$ref" in made or "allOf" in made):
        return {"anyOf": [made, {"type": "null"}]}
    return made


@cache
def validator(schema: str) -> Draft4Validator:
    """``schema``: as JSON, with references to the document's definitions."""
    definitions = Resource.from_contents({"definitions": nullable(document()["definitions"])}, DRAFT4)
    registry = Registry().with_resource("urn:api", definitions)
    return Draft4Validator(json.loads(schema.replace('"#/', '"urn:api#/')), registry=registry)


def violations(method: str, path: str, status: int, kind: str, body: bytes) -> list[str]:
    """Return what is wrong with an answer, a line each; ``kind``: the Content-Type."""
    operation = operation_of(method, path)
    if operation is None:
        return []  # a path that the specification does not know
    return [f"{method} {path}: {status}: {why}" for why in _violations(operation, status, kind, body)]


def _violations(operation: Operation, status: int, kind: str, body: bytes) -> Iterator[str]:
    unlisted = ANYWHERE | UNLISTED.get(f"{operation.method} {operation.path}", set())
    if str(status) not in operation.responses and str(status) not in unlisted:
        yield "a status that the specification does not have"
        return
    if status in (101, 204, 304) or operation.method == "HEAD":
        if body:
            yield f"a body: {body[:80]!r}"
        return
    if status >= 400:
        yield from _invalid({"$ref": "#/definitions/ErrorResponse"}, kind, [body])
    elif operation.path in STREAMS:
        definition = STREAMS[operation.path]
        schema = {"$ref": f"#/definitions/{definition}"} if definition else {"type": "object"}
        yield from _invalid(schema, kind, body.splitlines())
    elif (schema := operation.responses[str(status)].get("schema")) and _is_json(schema):
        yield from _invalid(schema, kind, [body])


def _is_json(schema: dict[str, Any]) -> bool:
    return schema.get("type") != "string"


def _invalid(schema: dict[str, Any], kind: str, values: list[bytes]) -> Iterator[str]:
    if kind != "application/json":
        yield f"Content-Type {kind!r}"
    check = validator(json.dumps(nullable(schema)))
    for value in values:
        try:
            decoded = json.loads(value)
        except ValueError as error:
            yield f"no JSON: {error}: {value[:80]!r}"
            continue
        for error in check.iter_errors(decoded):
            yield f"{error.json_path}: {error.message[:300]}"
