"""Why the operating system refused something."""

from __future__ import annotations

import pytest

from shared.runtime.reasons import reason


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "no space left on device"),
        (OSError(28, "No space left on device", "/x"), "/x: no space left on device"),
        (OSError("just words"), "just words"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset by peer"),
    ],
)
def test_a_reason_has_no_errno(error: OSError, told: str) -> None:
    assert reason(error) == told
