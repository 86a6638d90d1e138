"""Control groups: what a container uses, read from the kernel, whoever else does not answer (cgroup v1, v2, hybrid)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shared.runtime.slices import is_slice, scope_cgroup, slice_path

__all__ = ["Cgroups", "Usage"]

ROOT = Path("/sys/fs/cgroup")
IDENTIFIER = re.compile(r"(?:dockyard-)?([0-9a-f]{64})(?:\.scope)?")


@dataclass(frozen=True)
class Usage:
    cpu: float  # seconds of processor time
    memory: int  # bytes without those of the page cache that may go, as `docker stats` counts
    pids: int


@dataclass(frozen=True)
class Cgroups:
    """The containers below ``parent``, as ``/dockyard`` or ``dockyard.slice``."""

    parent: str
    root: Path = ROOT

    def containers(self) -> set[str]:
        """Return the ids of the containers that have a cgroup: those that run."""
        relative = (slice_path(self.parent) if is_slice(self.parent) else self.parent).strip("/")
        tops = [self.root / relative, *self.root.glob(f"*/{relative}")]
        names = (IDENTIFIER.fullmatch(entry.name) for top in tops if top.is_dir() for entry in top.iterdir())
        return {found[1] for found in names if found}

    def _place(self, container: str) -> Path:
        if is_slice(self.parent):
            return Path(scope_cgroup(self.parent, container).strip("/"))
        return Path(self.parent.strip("/"), container)

    def usage(self, container: str) -> Usage | None:
        """Return what a container uses now; None if it has no cgroup."""
        cpu = self._number(container, "cpuacct", "cpuacct.usage", 1e-9)
        if cpu is None:
            cpu = self._fact(container, "", "cpu.stat", "usage_usec", 1e-6)
        memory = self._number(container, "memory", "memory.usage_in_bytes")
        idle = self._fact(container, "memory", "memory.stat", "total_inactive_file")
        if memory is None:
            memory = self._number(container, "", "memory.current")
            idle = self._fact(container, "", "memory.stat", "inactive_file")
        pids = self._number(container, "pids", "pids.current")
        if pids is None:
            pids = self._number(container, "", "pids.current")
        if cpu is None and memory is None and pids is None:
            return None
        return Usage(cpu or 0.0, int(max((memory or 0) - (idle or 0), 0)), int(pids or 0))

    def _read(self, container: str, controller: str, file: str) -> str | None:
        """Read a file of a v1 hierarchy; of cgroup2, wherever it is mounted, if ``controller`` is empty."""
        path = self._place(container) / file
        for top in [self.root / controller] if controller else [self.root, self.root / "unified"]:
            try:
                return (top / path).read_text()
            except OSError:
                continue
        return None

    def _number(self, container: str, controller: str, file: str, unit: float = 1) -> float | None:
        text = self._read(container, controller, file)
        return float(text) * unit if text is not None else None

    def _fact(self, container: str, controller: str, file: str, key: str, unit: float = 1) -> float | None:
        text = self._read(container, controller, file) or ""
        facts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
        return float(facts[key]) * unit if key in facts else None
