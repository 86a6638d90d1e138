"""Omitting: members that moby's types leave out when they are empty, and that would be noise in `docker inspect`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = ["without_empty"]

CONFIG = (
    "ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal", "StopTimeout", "Shell",
)  # fmt: skip
OMITTED = {
    "Config": CONFIG,
    "ContainerConfig": CONFIG,
    "HostConfig": ("Init", "Mounts", "Annotations", "StorageOpt", "Tmpfs", "Sysctls"),
}  # of a container, or an image
MAY_BE_ZERO = ("Init", "StopTimeout", "Healthcheck")  # left out only when they are null


def without_empty(shown: Any) -> dict[str, Any]:
    """Return an answer that tells of a container or an image, without what is optional there and empty."""
    made: dict[str, Any] = msgspec.to_builtins(shown)
    _drop(made, ["Variant"])
    for part, names in OMITTED.items():
        section = made.get(part) or {}
        _drop(section, names)
        check = section.get("Healthcheck", {})
        _drop(check, list(check))
    return made


def _drop(section: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        value = section.get(name)
        if value is None or not (value or name in MAY_BE_ZERO):
            section.pop(name, None)
