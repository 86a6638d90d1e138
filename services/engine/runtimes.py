"""The OCI runtimes that a container may ask for."""

from __future__ import annotations

import shutil

from shared.runtime.config import RUNTIMES, Config

__all__ = ["available_runtimes"]


def available_runtimes(config: Config) -> dict[str, str]:
    """Return programs by name: the configured runtime, and each other that is installed."""
    others = {name: name for name in RUNTIMES if name != config.runtime and shutil.which(name)}
    return {config.runtime: config.exec_driver, **others}
