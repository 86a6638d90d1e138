"""Sizes: the bytes that a container has of its own, and with the layers that it began with."""

from __future__ import annotations

import stat
from pathlib import Path

from services.graphdriver.contents.changes import MOUNTS, MTAB, changes
from services.graphdriver.layers import Layers
from services.graphdriver.trees import tree_size
from shared.bus.context import check_cancelled
from shared.protocol import DELETED, LayerUsage

__all__ = ["usage"]


def usage(layers: Layers, container: str) -> LayerUsage:
    """Measure a container, which may run meanwhile. Errors: NotFound, OSError."""
    if layers.driver.sparse:
        with layers.compared(container) as (own, _):
            size = tree_size(own, check_cancelled) - _made(own)
    else:
        with layers.compared(container) as (above, below):
            size = _changed(above, below)
    return LayerUsage(rw=size, root=size + layers.below_size(container))


def _made(own: Path) -> int:
    """Return the bytes of the link that the runtime makes: it is no change of the container's."""
    etc, link = own / Path(MTAB).parent, own / MTAB
    try:
        return len(MOUNTS) if not etc.is_symlink() and str(link.readlink()) == MOUNTS else 0
    except OSError:
        return 0


def _changed(above: Path, below: Path) -> int:
    """Return the bytes of what differs in a whole tree; a hard link counts once."""
    files: dict[tuple[int, int], int] = {}
    for change in changes(above, below, sparse=False):
        if change.kind == DELETED:
            continue
        try:
            status = (above / change.path).lstat()
        except FileNotFoundError:  # a running container removes what it likes
            continue
        if not stat.S_ISDIR(status.st_mode):
            files[status.st_dev, status.st_ino] = status.st_size
    return sum(files.values())
