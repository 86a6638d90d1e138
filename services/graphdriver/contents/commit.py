"""Commit: a container's changes as the tar of a layer."""

from __future__ import annotations

import os
import posixpath

from services.graphdriver.apply import WHITEOUT
from services.graphdriver.contents.changes import changes
from services.graphdriver.contents.images import LayerFile
from services.graphdriver.layers import Layers
from services.graphdriver.pack import TreeWriter
from shared.protocol import DELETED, InvalidArgument

__all__ = ["write_changes"]


def write_changes(layers: Layers, container: str, mounted: frozenset[str], sink: LayerFile) -> bool:
    """Write what changed in a container, whiteouts for what is gone (image-spec §whiteouts); False if nothing did.

    ``mounted``: paths, relative to the root, that were made to mount something on.
    Each thing that is gone has a whiteout of its own, never a directory that is opaque: both storage drivers then
    write the same layer. Errors: NotFound, InvalidArgument (a name that would be a whiteout), OSError.
    """
    writer, changed = TreeWriter(sink), False
    with layers.compared(container) as (above, below):
        root = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for change in changes(above, below, sparse=layers.driver.sparse, mounted=mounted):
                directory, base = posixpath.split(change.path)
                if base.startswith(WHITEOUT):
                    raise InvalidArgument(f"{change.path!r} cannot be committed: in a layer its name means a removal")
                if change.kind == DELETED:
                    writer.add_empty(posixpath.join(directory, WHITEOUT + base))
                else:
                    writer.add(root, change.path, change.path)
                changed = True
        finally:
            os.close(root)
    writer.finish()
    return changed
