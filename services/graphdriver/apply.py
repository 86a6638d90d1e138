"""Apply: unpack a layer's tar into a directory (OCI image-spec 1.1, layer §applying).

Every name is resolved part by part from a directory descriptor, without following links: a symlink in the layer is
a thing to be made, never a way to go. Whiteouts become what the storage driver's file system understands.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from services.graphdriver.unpack import NOFOLLOW_DIRECTORY, remove, unpack
from shared.protocol import InvalidArgument
from shared.runtime.members import Source

__all__ = ["OPAQUE", "OPAQUE_XATTR", "WHITEOUT", "WHITEOUT_DEVICE", "apply_layer"]

WHITEOUT, OPAQUE, AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."
OPAQUE_XATTR = "trusted.overlay.opaque"
WHITEOUT_DEVICE = os.makedev(0, 0)


def apply_layer(source: Source, target: Path, *, overlay: bool) -> int:
    """Unpack an uncompressed tar stream; returns the bytes of its regular files.

    ``overlay``: write whiteouts as overlayfs reads them (the layers below are not there); else remove what they name.
    Errors: InvalidArgument (the archive is broken or tries to leave), OSError.
    """
    root = os.open(target, NOFOLLOW_DIRECTORY)
    layer = _Layer(root, overlay)
    try:
        return unpack(source, layer)
    finally:
        layer.forget_way()
        os.close(root)


class _Layer:
    kind, lasting = "layer", False

    # _way: the directories that led to the last member; the next one is near it, mostly

    def __init__(self, root: int, overlay: bool) -> None:
        self._root, self._overlay = root, overlay
        self._whited: set[str] = set()
        self._way: list[tuple[str, int]] = []
        self._made: set[str] = set()  # what this very layer has made: its own opaque marks spare it

    def open_parent(self, name: str, parts: list[str]) -> int:
        known = 0
        for (part, _), wanted in zip(self._way, parts, strict=False):
            if part != wanted:
                break
            known += 1
        self._forget_from(known)
        for part in parts[known:]:
            self._way.append((part, self._step(name, part, self._way[-1][1] if self._way else self._root)))
        return os.dup(self._way[-1][1] if self._way else self._root)

    def forget_way(self) -> None:
        """Close what `open_parent` keeps: a directory on it is removed."""
        self._forget_from(0)

    def _forget_from(self, index: int) -> None:
        for _, descriptor in self._way[index:]:
            os.close(descriptor)
        del self._way[index:]

    def _step(self, name: str, part: str, current: int) -> int:
        try:
            return os.open(part, NOFOLLOW_DIRECTORY, dir_fd=current)
        except FileNotFoundError:
            os.mkdir(part, 0o700, dir_fd=current)
            made = os.open(part, NOFOLLOW_DIRECTORY, dir_fd=current)
            os.fchmod(made, 0o755)  # our umask is not the image's
            return made
        except OSError as error:
            raise InvalidArgument(f"invalid layer: {name!r} leads through a link or a file") from error

    def check_replaced(self, name: str, *, is_directory: bool, by_directory: bool) -> None:
        if is_directory:
            self.forget_way()

    def made(self, parent: int, base: str, name: str) -> None:
        self._made.add(name)
        if self._overlay and name in self._whited:
            _make_opaque(parent, base)  # a directory in the place of one that is gone

    def claims(self, parent: int, base: str, name: str) -> bool:
        """Hide what the layers below have under a name; what this layer has there stays (image-spec §whiteouts)."""
        if not base.startswith(WHITEOUT):
            return False
        if base == OPAQUE:
            self._opaque(parent, name)
        elif not base.startswith(AUFS):  # aufs's own notes, which old images carry
            self._whiteout(parent, base, name)
        return True

    def _whiteout(self, parent: int, base: str, name: str) -> None:
        hidden = base.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            raise InvalidArgument(f"invalid layer: {name!r} is no whiteout")
        whited = name[: len(name) - len(base)] + hidden
        self._whited.add(whited)
        if whited in self._made:
            if self._overlay:
                _make_opaque(parent, hidden)
            return
        if _exists(parent, hidden):
            self.forget_way()
            remove(parent, hidden)
        if self._overlay:
            os.mknod(hidden, stat.S_IFCHR, WHITEOUT_DEVICE, dir_fd=parent)

    def _opaque(self, parent: int, name: str) -> None:
        if self._overlay:
            _make_opaque(parent, ".")
            return
        directory = name.rpartition("/")[0]
        self.forget_way()
        for entry in os.listdir(parent):
            if (f"{directory}/{entry}" if directory else entry) not in self._made:
                remove(parent, entry)


def _make_opaque(parent: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.setxattr(f"/proc/self/fd/{parent}/{name}", OPAQUE_XATTR, b"y")


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
