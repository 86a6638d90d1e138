"""Filling: an empty volume gets what the image has in its place, all of it or nothing.

| in the volume       | while, or after a crash                                      | `settle` then            |
|---------------------|--------------------------------------------------------------|--------------------------|
| .dockyard-filling   | the copy is being made                                       | removes it               |
| .dockyard-filled    | it is complete, and its entries are being moved up           | moves what is left of it |

Both lie in the volume itself, so that moving is a rename, whatever is mounted there. A volume is settled before it is
given to a container that starts.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from services.graphdriver.syscalls import sync_file_system
from services.graphdriver.volumes.copying import DIRECTORY, copy_attributes, copy_tree, opened

__all__ = ["fill", "is_empty", "settle"]

FILLING, FILLED = ".dockyard-filling", ".dockyard-filled"


def is_empty(volume: Path) -> bool:
    return not any(volume.iterdir())


def fill(volume: Path, source: int) -> None:
    """Fill an empty, settled volume from an open directory. Errors: OSError, InvalidArgument, Cancelled; then it is
    empty."""
    with opened(volume, DIRECTORY) as top:
        try:
            os.mkdir(FILLING, 0o700, dir_fd=top)
            with opened(FILLING, DIRECTORY, top) as target:
                copy_tree(source, target)
            if os.listdir(source):
                sync_file_system(volume)
            os.rename(FILLING, FILLED, src_dir_fd=top, dst_dir_fd=top)
        except BaseException:
            shutil.rmtree(FILLING, ignore_errors=True, dir_fd=top)
            raise
        _move_up(top)


def settle(volume: Path) -> None:
    """Undo or complete what was interrupted. Errors: OSError."""
    with opened(volume, DIRECTORY) as top:
        present = {entry.name for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False)}
        if FILLING in present:
            shutil.rmtree(FILLING, dir_fd=top)
        if FILLED in present:
            _move_up(top)


def _move_up(top: int) -> None:
    """Move the entries of the complete copy up, then take over its attributes; a name that is taken stays."""
    with opened(FILLED, DIRECTORY, top) as filled:
        status = os.fstat(filled)
        for name in {entry.name for entry in os.scandir(filled)} - {entry.name for entry in os.scandir(top)}:
            os.rename(name, name, src_dir_fd=filled, dst_dir_fd=top)
        copy_attributes(filled, top)
    shutil.rmtree(FILLED, dir_fd=top)
    os.utime(top, ns=(status.st_atime_ns, status.st_mtime_ns))
