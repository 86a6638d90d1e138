"""Files inside a container's root filesystem, read as the container would: no symlink leads out."""

from __future__ import annotations

import os
from pathlib import Path

from shared.runtime.openat2 import open_inside

__all__ = ["read_text"]

MAX_TEXT = 1 << 20  # bytes read of passwd and group


def read_text(rootfs: Path, path: str) -> str:
    """Read a small text file of the container; empty if it is not there or not a regular file."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        descriptor = open_inside(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    finally:
        os.close(root)
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(MAX_TEXT).decode("utf-8", "replace")
        except OSError:
            return ""
