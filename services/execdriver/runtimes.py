"""The OCI runtimes: the one that is configured, and each other that is installed, by its name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from services.execdriver.crun import Crun
from services.execdriver.driver import Runtime
from services.execdriver.runc import Runc
from shared.protocol import NotFound
from shared.runtime.config import Config

__all__ = ["RuntimeOf", "runtimes"]

KINDS: dict[str, type[Crun]] = {"crun": Crun, "runc": Runc}
RuntimeOf = Callable[[str], Runtime]  # by name; an empty one is the configured runtime. Errors: NotFound


def runtimes(config: Config) -> RuntimeOf:
    """Make what finds a runtime by its name. Errors: NotFound (the configured one is not installed)."""

    @functools.cache
    def runtime(name: str) -> Runtime:
        if name not in KINDS:
            raise NotFound(f"unknown or invalid runtime name: {name}")
        program = config.exec_driver if name == config.runtime else name
        return KINDS[name](program, config.run / "oci")

    runtime(config.runtime)
    return lambda name: runtime(name or config.runtime)
