"""docs/api.md is made of the route table and the specification: `make golden` writes, this compares."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from services.apiserver.routes import refused
from tests.specification.schemas import Operation, operations, violations
from tests.unit.apiserver.test_refused import app
from tests.unit.apiserver.test_routes import api, message

DOCUMENT = Path(__file__).parents[3] / "docs" / "api.md"
NAMES = {"{id}": "REF", "{name}": "REF"}
# What 501 refuses, though the specification has no such answer: there is none in it for what is not there.
NOT_THERE = {
    f"{method} {path}" for routes in refused.MISSING.values() for method, path in (route.split() for route in routes)
}


def concrete(path: str) -> str:
    return re.sub(r"\{[a-z]+\}", "REF", path)


def endpoint(method: str, path: str) -> str:
    """Return the name of the view that serves a request. Raises NotFound or MethodNotAllowed."""
    adapter = app().url_map.bind("docker")
    return str(adapter.match(concrete(path), method=method, websocket=path.endswith("/ws"))[0])


def is_refused(one: Operation) -> bool:
    return endpoint(one.method, one.path).startswith("refused.")


def beyond() -> list[tuple[str, str]]:
    """Return the routes that the specification does not have."""
    known = {(one.method, concrete(one.path)) for one in operations()}
    found = set()
    for rule in app().url_map.iter_rules():
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            if (method, re.sub(r"<[^>]+>", "REF", rule.rule)) not in known:
                found.add((method, re.sub(r"<(?:path:)?([^>]+)>", r"{\1}", rule.rule)))
    return sorted(found, key=lambda one: (one[1], one[0]))


def answer(method: str, path: str) -> str:
    if not endpoint(method, path).startswith("refused."):
        return "done"
    http, _ = api()
    refusal = http.open(concrete(path), method=method, json={})
    return f"refused: {refusal.status_code} `{message(refusal)}`"


def table(rows: list[tuple[str, str]]) -> str:
    lines = ["| method | path | |", "|---|---|---|"]
    return "\n".join(lines + [f"| {method} | {path} | {answer(method, path)} |" for method, path in rows])


def generated() -> str:
    nouns: dict[str, list[tuple[str, str]]] = {}
    for one in operations():
        nouns.setdefault(one.path.split("/")[1], []).append((one.method, one.path))
    parts = [f"\n### /{noun}\n\n{table(rows)}" for noun, rows in nouns.items()]
    return "\n".join([*parts, f"\n### Beyond the specification\n\n{table(beyond())}"])


def rendered(text: str) -> str:
    made = f"<!-- generated: endpoints -->\n{generated()}\n<!-- end -->"
    return re.sub(r"<!-- generated: endpoints -->.*?<!-- end -->", lambda _: made, text, flags=re.DOTALL)


def test_the_document_is_that_of_the_routes() -> None:
    text = DOCUMENT.read_text()
    if os.environ.get("UPDATE_GOLDEN"):
        DOCUMENT.write_text(rendered(text))
        return
    assert text == rendered(text)


@pytest.mark.parametrize("one", operations(), ids=lambda one: f"{one.method} {one.path}")
def test_every_endpoint_of_the_specification_is_served_or_refused(one: Operation) -> None:
    assert endpoint(one.method, one.path)  # else it raises NotFound


@pytest.mark.parametrize("one", [one for one in operations() if is_refused(one)], ids=lambda one: one.path)
def test_what_is_refused_is_refused_as_the_specification_says(one: Operation) -> None:
    http, _ = api()
    refusal = http.open(concrete(one.path), method=one.method, json={})
    assert str(refusal.status_code) in one.responses or f"{one.method} {one.path}" in NOT_THERE
    kind = refusal.headers["Content-Type"]
    assert violations(one.method, concrete(one.path), refusal.status_code, kind, refusal.data) == []
