"""Extraction: where an archive for a container goes. Its links are followed, as the container follows them."""

from __future__ import annotations

import os

from services.graphdriver.contents.roots import Root
from services.graphdriver.pack import is_kernels
from services.graphdriver.unpack import NOFOLLOW_DIRECTORY
from shared.protocol import InvalidArgument
from shared.runtime.openat2 import PATH_MAX

__all__ = ["Extraction"]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


class Extraction:
    """A `Place`: the directory ``path`` of a container. Whiteouts mean nothing here."""

    kind, lasting = "archive", True

    def __init__(self, root: Root, path: str, *, no_overwrite_dir_non_dir: bool) -> None:
        self._root, self._path, self._keep = root, path.rstrip("/"), no_overwrite_dir_non_dir

    def open_parent(self, name: str, parts: list[str]) -> int:
        try:
            parent = self._open("/".join([self._path, *parts]) or "/")
        except FileNotFoundError:
            parent = self._make(name, parts)
        if is_kernels(parent):
            os.close(parent)
            raise InvalidArgument(f"invalid archive: {name!r} is among the kernel's own files")
        return parent

    def _open(self, path: str) -> int:
        is_deep = len(os.fsencode(path)) >= PATH_MAX
        return (self._root.open_deep if is_deep else self._root.open)(path, DIRECTORY)

    def _make(self, name: str, parts: list[str]) -> int:
        path = self._path
        current = self._root.open(path or "/", DIRECTORY)
        for part in parts:
            path = f"{path}/{part}"
            try:
                following = self._open(path)
            except FileNotFoundError:
                following = self._make_one(name, part, current)
            finally:
                os.close(current)
            current = following
        return current

    def _make_one(self, name: str, part: str, parent: int) -> int:
        try:
            os.mkdir(part, 0o700, dir_fd=parent)
        except FileExistsError:
            raise InvalidArgument(f"invalid archive: {name!r} leads through a link to nowhere") from None
        made = os.open(part, NOFOLLOW_DIRECTORY, dir_fd=parent)
        os.fchmod(made, 0o755)  # our umask is not the container's
        return made

    def claims(self, parent: int, base: str, name: str) -> bool:
        return False

    def check_replaced(self, name: str, *, is_directory: bool, by_directory: bool) -> None:
        if not self._keep or is_directory == by_directory:
            return
        old, new = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
        raise InvalidArgument(f'cannot overwrite {old} "{self._path}/{name}" with {new} "{self._path or "/"}"')

    def made(self, parent: int, base: str, name: str) -> None:
        return
