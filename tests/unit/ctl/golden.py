"""Golden files of what the command shows: tests/golden/ctl; `make golden` rewrites them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["assert_golden"]

DIRECTORY = Path(__file__).parents[2] / "golden" / "ctl"


def assert_golden(name: str, text: str) -> None:
    path = DIRECTORY / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{name}: look at the difference, then make golden"
