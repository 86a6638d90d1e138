from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.ctl import units


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00085, "850us"),
        (0.0123, "12.3ms"),
        (4.213, "4.21s"),
        (192.7, "3m12s"),
        (7500, "2h05m"),
        (9 * 86400 + 4 * 3600, "9d04h"),
        (-3, "-3.00s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(512, "512B"), (38_200_000, "38.2M"), (5e15, "5000.0T")])
def test_sizes(count: float, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 1e9 - 90),
        ("1h30m", 1e9 - 5400),
        ("2d", 1e9 - 172800),
        ("999999000.5", 999999000.5),
        ("2001-09-09T01:46:40+00:00", datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC).timestamp()),
    ],
)
def test_since(text: str, seconds: float) -> None:
    assert units.parse_since(text, now=1e9) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10", "-5m", "5x", "1767225600000000000000x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is none of"):
        units.parse_since(text, now=1e9)
