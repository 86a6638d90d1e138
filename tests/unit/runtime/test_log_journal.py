"""What journalctl's JSON becomes as lines of a log."""

from __future__ import annotations

import json
import os
import resource
from contextlib import ExitStack

import pytest

from shared.runtime.logs.journal import _Cursor, _entries, _lines

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


def test_it_is_read_by_a_process_that_has_a_thousand_connections() -> None:
    """select(2) knows 1,024 descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2048), before[1]))
    try:
        with ExitStack() as opened:
            for _ in range(1100):
                opened.callback(os.close, os.open("/dev/null", os.O_RDONLY))
            command = ["echo", json.dumps({**WHEN, "MESSAGE": "one"})]
            assert b"".join(_entries(command, _Cursor(), lambda: False)) == f"{STAMP} F one\n".encode()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
