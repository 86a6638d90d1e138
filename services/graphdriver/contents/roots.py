"""Roots: a container's files as it sees them, resolved so that no path and no symlink leads out.

| container | "/" is                                | what is mounted                                               |
|-----------|---------------------------------------|---------------------------------------------------------------|
| runs      | /proc/PID/root, in its mount namespace | all, by the kernel                                            |
| does not  | its root filesystem, mounted meanwhile | binds and volumes, if a path leads to them (`Root.follow`)    |

A pid is a number that another process may have by now. /proc/PID/root counts only if it is the container's own root
filesystem: same device, same inode. The host's can not be mistaken for it. Its mount namespace is held meanwhile: what
is mounted stays so to the end of the copy, though the container ends before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.graphdriver.layers import Layers
from services.graphdriver.pack import GONE
from shared.protocol import ContainerTree, InvalidArgument, TreeMount
from shared.runtime import links
from shared.runtime.openat2 import open_inside

__all__ = ["Root", "opened"]

ROOTFS_READ_ONLY = "container rootfs is marked read-only"
VOLUME_READ_ONLY = "mounted volume is marked read-only"


@dataclass(frozen=True)
class _Mount:
    """``prefix``: the name below ``descriptor`` where it begins (a file's own), with its slash."""

    target: str
    descriptor: int
    prefix: str
    read_only: bool


class Root:
    """Errors of all methods: OSError."""

    def __init__(self, descriptor: int, *, read_only: bool) -> None:
        self.descriptor, self._read_only = descriptor, read_only
        self._mounts: list[_Mount] = []

    def open(self, path: str, flags: int) -> int:
        """Open an absolute path; returns a descriptor."""
        if not self._mounts:
            return open_inside(self.descriptor, path, flags)
        return self.open_deep(path, flags)

    def open_deep(self, path: str, flags: int) -> int:
        """`open` an absolute path that may be longer than the kernel takes at once."""
        head, _, last = path.rpartition("/")
        if last in ("", "."):  # what can only be said of a directory; `follow` drops it
            flags |= os.O_DIRECTORY
        resolved = (
            f"{self.follow(head)}/{last}" if flags & os.O_NOFOLLOW and last not in ("", ".") else self.follow(path)
        )
        descriptor, relative, _ = self._place(resolved)
        return open_inside(descriptor, relative, flags | os.O_NOFOLLOW, links=False)

    def follow(self, path: str) -> str:
        """Resolve all symlinks of an absolute path, as far as it exists; returns an absolute path."""
        return "/" + "/".join(links.follow(path, lambda inside: self._link(f"/{inside}")))

    def _link(self, path: str) -> str | None:
        descriptor, relative, _ = self._place(path)
        try:
            handle = open_inside(descriptor, relative, os.O_PATH | os.O_NOFOLLOW, links=False)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return None
        try:
            return os.readlink("", dir_fd=handle) if stat.S_ISLNK(os.fstat(handle).st_mode) else None
        finally:
            os.close(handle)

    def _place(self, path: str) -> tuple[int, str, bool]:
        """Say where a path without symlinks lies: (root, path below it, read-only)."""
        for mount in self._mounts:
            if path == mount.target or path.startswith(f"{mount.target}/"):
                return mount.descriptor, mount.prefix + path[len(mount.target) :].lstrip("/") or ".", mount.read_only
        return self.descriptor, path, self._read_only

    def add_mount(self, mount: TreeMount) -> int:
        """Put a bind or a volume in its place; returns its descriptor, which is to stay open."""
        target = self.follow(mount.target)
        source, prefix = Path(mount.source), ""
        if not source.is_dir():
            source, prefix = source.parent, source.name
        descriptor = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._mounts.insert(0, _Mount(target, descriptor, prefix, mount.read_only))  # the later one covers the earlier
        return descriptor

    def check_writable(self, path: str) -> None:
        """Errors: InvalidArgument, in the words that clients know."""
        descriptor, _, read_only = self._place(self.follow(path)) if self._mounts else (-1, "", False)
        if descriptor in (-1, self.descriptor):
            self._check_mount(path)
        elif read_only:
            raise InvalidArgument(VOLUME_READ_ONLY)

    def _check_mount(self, path: str) -> None:
        """Ask the kernel where ``path`` is mounted."""
        handle = self.open(path, os.O_PATH)
        try:
            if _mount_id(handle) == _mount_id(self.descriptor):
                if self._read_only:
                    raise InvalidArgument(ROOTFS_READ_ONLY)
            elif os.fstatvfs(handle).f_flag & os.ST_RDONLY:
                raise InvalidArgument(VOLUME_READ_ONLY)
        finally:
            os.close(handle)


def _mount_id(descriptor: int) -> str:
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))


@contextmanager
def opened(layers: Layers, tree: ContainerTree) -> Iterator[Root]:
    """Have a container's files for a while. Errors: NotFound (no such container), OSError."""
    with layers.borrowed(tree.container) as rootfs, ExitStack() as stack:
        rootfs_root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, rootfs_root)
        process_root = _process_root(tree.pid, rootfs_root, stack)
        if process_root is not None:
            yield Root(process_root, read_only=tree.read_only)
            return
        root = Root(rootfs_root, read_only=tree.read_only)
        for mount in tree.mounts:
            if Path(mount.source).exists():
                stack.callback(os.close, root.add_mount(mount))
        yield root


def _process_root(pid: int, rootfs: int, stack: ExitStack) -> int | None:
    """Open the root of a process, if it is ``rootfs``, for as long as ``stack`` is open.

    The namespace first: a process that ends gives up its root before it (kernel/exit.c, do_exit), so that a root which
    could be opened after the namespace is in a namespace that is held.
    """
    if pid <= 0:
        return None
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, namespace)
        descriptor = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    stack.callback(os.close, descriptor)
    return descriptor if os.path.samestat(os.fstat(descriptor), os.fstat(rootfs)) else None
