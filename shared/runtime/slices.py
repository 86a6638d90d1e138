"""Slices: systemd's names of control groups, and which of the two cgroup drivers a host is for (systemd.slice(5))."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["BOOTED", "PARENTS", "choose", "is_slice", "scope_cgroup", "slice_path"]

BOOTED = Path("/run/systemd/system")  # sd_booted(3)
SLICE = re.compile(r"(?:[A-Za-z0-9:_.\\]+)(?:-[A-Za-z0-9:_.\\]+)*\.slice|-\.slice")
PARENTS = {"systemd": "dockyard.slice", "cgroupfs": "/dockyard"}


def is_slice(name: str) -> bool:
    """Say whether it is the name of a slice; not a path, and with no empty part (``a--b.slice``)."""
    return SLICE.fullmatch(name) is not None


def slice_path(name: str) -> str:
    """Return a slice's cgroup: ``/a.slice/a-b.slice`` for ``a-b.slice``. Raises ValueError: not a slice."""
    if not is_slice(name):
        raise ValueError(f"not a slice: {name}")
    if name == "-.slice":
        return ""
    parts = name.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[: end + 1])}.slice" for end in range(len(parts)))


def scope_cgroup(parent: str, container: str) -> str:
    """Return the cgroup of a container in a scope of its own, in a slice: ``/SLICE/dockyard-ID.scope/container``."""
    return f"{slice_path(parent)}/dockyard-{container}.scope/container"


def choose(driver: str, parent: str, booted: Path = BOOTED) -> tuple[str, str]:
    """Return cgroup driver and parent, each as it was given, or what fits the other and this host if it is empty."""
    if not driver:
        driver = "systemd" if booted.is_dir() and (not parent or is_slice(parent)) else "cgroupfs"
    return driver, parent or PARENTS[driver]
