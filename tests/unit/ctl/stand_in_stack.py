"""A launcher over stand-in processes, for test_launcher: ``python -m tests.unit.ctl.stand_in_stack DIRECTORY``.

A part is ready when DIRECTORY/NAME.ready is there; the API, when api.ready is. No engine, no root, no network.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

from services.ctl import succession
from services.ctl.launcher import Launcher
from services.ctl.rehearsal import CHECKED
from services.ctl.startup import ROOT_LOCK, RUN_LOCK, take_lock
from services.ctl.watcher import BoundedWatcher
from shared.runtime.log import set_up_logging

BOOT_TIMEOUT = 20.0  # seconds


class Gates:
    """What `Readiness` offers, with files in place of the bus."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.given_up = threading.Event()

    def wait_for(self, service: str) -> None:
        if (self.directory / f"{service}.fault").exists():
            raise RuntimeError(f"a bug in the wait for {service}")
        deadline = time.monotonic() + BOOT_TIMEOUT
        while not (self.directory / f"{service}.ready").exists() and not self.given_up.wait(0.01):
            if time.monotonic() > deadline or (self.directory / f"{service}.late").exists():
                raise TimeoutError(f"{service} is not ready in time")

    def wait_for_api(self) -> None:
        self.wait_for("api")

    def registered(self, service: str) -> set[int]:
        return set()

    def wait_for_successor(self, service: str, known: set[int]) -> None:
        self.wait_for(service)

    def await_quiet(self, service: str) -> None:
        pass

    def is_alive(self) -> bool:
        return not (self.directory / "api.dead").exists()

    def give_up(self) -> None:
        self.given_up.set()


async def main(directory: Path) -> int:
    legacy = succession.take(os.environ)
    if legacy is None:
        take_lock(directory / ROOT_LOCK)
        take_lock(directory / RUN_LOCK)
    variables = {"STAND_IN": str(directory)}
    launcher = Launcher(
        directory / "circus.ini", directory, variables, [], root=directory, legacy=legacy,
        stop_limit=lambda service: 10.0 if (directory / f"{service}.slow").exists() else BoundedWatcher.GRACE,
    )  # fmt: skip
    launcher.readiness = cast(Any, Gates(directory))
    return await launcher.run()


if __name__ == "__main__":
    set_up_logging(debug=False)
    if "--check" in sys.argv:
        print(CHECKED.format(sys.argv[1], sys.argv[1]))
        sys.exit(int((Path(sys.argv[1]) / "config.wrong").exists()))
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
