"""This machine, as OCI names it."""

from __future__ import annotations

import platform

__all__ = ["architecture"]

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture() -> str:
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)
