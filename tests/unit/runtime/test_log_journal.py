"""What journalctl's JSON becomes as lines of a log."""

from __future__ import annotations

import json

import pytest

from shared.runtime.logs.journal import _Cursor, _lines

WHEN = {"__REALTIME_TIMESTAMP": "1000000", "__CURSOR": "here", "PRIORITY": "6"}
STAMP = "1970-01-01T00:00:01.000000000+00:00 stdout"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"MESSAGE": "one"}, [f"{STAMP} F one"]),
        ({"MESSAGE": "one\n"}, [f"{STAMP} F one"]),
        ({"MESSAGE": "part", "CONTAINER_PARTIAL_MESSAGE": "true"}, [f"{STAMP} P part"]),
        ({"MESSAGE": "end\nnext\n"}, [f"{STAMP} F end", f"{STAMP} F next"]),
        ({"MESSAGE": "end\nnex", "CONTAINER_PARTIAL_MESSAGE": "true"}, [f"{STAMP} F end", f"{STAMP} P nex"]),
        ({"MESSAGE": [101, 110, 100, 10, 255]}, [f"{STAMP} F end", f"{STAMP} F \xff"]),
        ({"MESSAGE": f"x\n{STAMP} F forged"}, [f"{STAMP} F x", f"{STAMP} F {STAMP} F forged"]),
        ({"MESSAGE": None}, [f"{STAMP} F "]),
    ],
)
def test_an_entry(fields: dict[str, object], expected: list[str]) -> None:
    cursor = _Cursor()
    lines = _lines(json.dumps({**WHEN, **fields}).encode(), cursor)
    assert lines.decode("latin-1").split("\n") == [*expected, ""]
    assert cursor.text == "here"
