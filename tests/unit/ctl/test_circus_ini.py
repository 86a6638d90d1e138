"""circus.ini as shipped: what circus does badly (its limits, each of which was reproduced) is not asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from circus.config import get_config

ROOT = Path(__file__).parents[3]
SETTINGS: dict[str, Any] = get_config(str(ROOT / "circus.ini"))


@pytest.mark.parametrize("watcher", SETTINGS["watchers"], ids=lambda watcher: str(watcher["name"]))
def test_a_watcher(watcher: dict[str, Any]) -> None:
    assert 0 < int(watcher["max_retry"]) <= 5  # -1: it would try for ever in its event loop
    assert float(watcher["graceful_timeout"]) <= 3  # it reaps nobody while it waits
    assert watcher["copy_env"]
    assert watcher["cmd"].startswith("python -m services.")
    assert not watcher.get("hooks")  # they run in its event loop, and one False stops the watcher for good
    assert watcher["respawn"]
    assert watcher["use_sockets"] == (
        watcher["name"] == "apiserver"
    )  # with it, every inheritable descriptor goes along


def test_nothing_else_is_asked_of_circus() -> None:
    assert 0.2 <= float(SETTINGS["check_delay"]) <= 0.5  # a process that ended is seen at the next look
    assert not SETTINGS["plugins"]  # flapping and watchdog: by the wall clock, and they stop watchers in silence
    assert not SETTINGS["sockets"]  # it cannot adopt one
