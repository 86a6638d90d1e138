"""Make ``engine-api-1.51.json``: ``python -m tests.specification.derive v1.51.yaml``. One definition or path a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

PROSE = ("description", "summary", "example", "examples", "externalDocs", "title", "tags", "x-go-name", "x-displayName")
NAMES = ("properties", "definitions", "paths", "responses")  # whose keys are names, whatever they are


def bare(value: Any, *, names: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: bare(entry, names=key in NAMES) for key, entry in value.items() if names or key not in PROSE}
    return [bare(entry) for entry in value] if isinstance(value, list) else value


def lines(value: dict[str, Any], depth: int) -> str:
    """Render as JSON, an entry a line down to ``depth``."""
    if not depth:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    entries = (
        f"{json.dumps(key)}:{lines(entry, depth - 1 if isinstance(entry, dict) else 0)}" for key, entry in value.items()
    )
    return "{\n" + ",\n".join(entries) + "\n}"


def main(source: str) -> None:
    specification = bare(yaml.safe_load(Path(source).read_text()))
    for operation in (o for path in specification["paths"].values() for o in path.values() if "responses" in o):
        for response in operation["responses"].values():
            response["description"] = ""  # the format demands one
    specification["info"] = {"title": "Docker Engine API", "version": specification["info"]["version"]}
    Path(__file__).with_name("engine-api-1.51.json").write_text(lines(specification, 2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
