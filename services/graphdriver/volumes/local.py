"""local: a volume is a directory here, or what mount(2) makes of its options there.

| path                  | mode       | what                                                                      |
|-----------------------|------------|---------------------------------------------------------------------------|
| ROOT/volumes          | 0701       |                                                                           |
| ROOT/volumes/NAME     | 0701       |                                                                           |
| …/NAME/_data          | 0755 first | the data, which containers see and may change mode and owner of           |
| …/NAME/_removed       |            | the same on its way out                                                   |
"""

from __future__ import annotations

import shutil
from pathlib import Path

from services.graphdriver import syscalls
from services.graphdriver.trees import tree_size
from services.graphdriver.volumes.driver import Options
from services.graphdriver.volumes.filling import settle
from services.graphdriver.volumes.options import check_options, mount_device, wants_mount
from shared.bus.context import check_cancelled
from shared.protocol import Conflict
from shared.runtime.mountinfo import mounts_below

__all__ = ["Local"]

DATA, REMOVED = "_data", "_removed"


class Local:
    name = "local"

    def __init__(self, root: Path) -> None:
        self._root = root
        _make(root, 0o701)

    def _data(self, volume: str) -> Path:
        return self._root / volume / DATA

    def create(self, volume: str, options: Options) -> Path:
        check_options(volume, options)
        data = self._data(volume)
        _make(data.parent, 0o701)
        _make(data, 0o755)
        return data

    def mount(self, volume: str, options: Options) -> Path:
        data = self.create(volume, options)  # a power cut may have taken what was made
        if options and wants_mount(options) and not mounts_below(data):
            mount_device(options, data)
        settle(data)
        return data

    def unmount(self, volume: str) -> None:
        data = self._data(volume)
        for point in mounts_below(data):
            if point == data.resolve():
                syscalls.unmount(data)

    def remove(self, volume: str) -> None:
        """Rename first: the kernel refuses that for a mount point, so that only what is ours is ever removed."""
        data, doomed = self._data(volume), self._root / volume / REMOVED
        self.unmount(volume)
        inside = mounts_below(data.parent)
        if inside:
            raise Conflict(f"remove {volume}: something is mounted at {inside[0]}")
        for present in (doomed, data):
            if present.exists():
                present.rename(doomed)
                shutil.rmtree(doomed)
        if data.parent.exists():
            shutil.rmtree(data.parent)

    def mounted(self) -> list[str]:
        points = mounts_below(self._root)
        top = self._root.resolve()
        return sorted({p.parent.name for p in points if p.name == DATA and p.parent.parent == top})

    def usage(self, volume: str) -> int:
        return tree_size(self._data(volume), check_cancelled)


def _make(directory: Path, mode: int) -> None:
    """Make a directory with exactly that mode, whatever our umask; one that is there is left as it is."""
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        return
    directory.chmod(mode)
