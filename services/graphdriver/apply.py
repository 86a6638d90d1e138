"""Apply: unpack a layer's tar into a directory, and let nothing out of it (OCI image-spec 1.1, layer §applying).

Every name is resolved part by part from a directory descriptor, without following links: a symlink in the layer is
a thing to be made, never a way to go. Whiteouts become what the storage driver's file system understands.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from services.graphdriver.members import TAR_ERRORS, Member
from shared.protocol import InvalidArgument

__all__ = ["MAX_UNPACKED", "apply_layer"]

WHITEOUT, OPAQUE, AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."
MAX_UNPACKED = 64 << 30  # bytes one layer may unpack to
XATTR = "SCHILY.xattr."
FORBIDDEN_XATTRS = ("trusted.overlay.", "user.overlay.")  # they would speak to overlayfs
NOFOLLOW_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NAME_ERRORS = (errno.ENAMETOOLONG, errno.ENOENT, errno.EINVAL, errno.ELOOP)  # the archive's fault, not the disk's
CHUNK = 1 << 20


def apply_layer(source: IO[bytes], target: Path, *, overlay: bool) -> int:
    """Unpack an uncompressed tar stream; returns the bytes of its regular files.

    ``overlay``: write whiteouts as overlayfs reads them (the layers below are not there); else remove what they name.
    Errors: InvalidArgument (the archive is broken or tries to leave), OSError.
    """
    return _Applier(target, overlay).run(source)


class _Applier:
    def __init__(self, target: Path, overlay: bool) -> None:
        self.target, self.overlay = target, overlay
        self.size = 0
        self.directory_times: dict[str, float] = {}
        self.whited: set[str] = set()
        self.made: set[str] = set()  # what this very layer has made: its own opaque marks spare it

    def run(self, source: IO[bytes]) -> int:
        self.root = os.open(self.target, NOFOLLOW_DIRECTORY)
        try:
            with tarfile.open(fileobj=source, mode="r|", tarinfo=Member) as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # or a million files are a gigabyte
                    self._member(archive, member)
            for name, mtime in self.directory_times.items():
                with self._parent(name) as (parent, base):
                    os.utime(base or ".", (mtime, mtime), dir_fd=parent, follow_symlinks=False)
        except TAR_ERRORS as error:
            raise InvalidArgument(f"invalid layer: {error}") from error
        except NotADirectoryError as error:
            raise InvalidArgument(
                f"invalid layer: a name leads through something that is no directory: {error}"
            ) from error
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            raise InvalidArgument(f"invalid layer: {error}") from error
        finally:
            os.close(self.root)
        return self.size

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = _clean(member.name)
        with self._parent(name) as (parent, base):
            if base.startswith(WHITEOUT):
                self._whiteout(parent, base, name, len(name) - len(base))
                return
            if not base:
                self._attributes(parent, ".", member)
                return
            self._make_way(parent, base, member)
            self._make(archive, member, parent, base)
            if not member.islnk():
                self._attributes(parent, base, member)
            if self.overlay and name in self.whited:
                _make_opaque(parent, base)  # a directory in the place of one that is gone
        self.made.add(name)
        if member.isdir():
            self.directory_times[name] = member.mtime

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """Open the directory that holds ``name``, making missing ones; yields it with the last part."""
        *parents, base = name.split("/") if name else [""]
        current = os.dup(self.root)
        try:
            for part in parents:
                try:
                    following = os.open(part, NOFOLLOW_DIRECTORY, dir_fd=current)
                except FileNotFoundError:
                    os.mkdir(part, 0o700, dir_fd=current)
                    following = os.open(part, NOFOLLOW_DIRECTORY, dir_fd=current)
                    os.fchmod(following, 0o755)  # our umask is not the image's
                except OSError as error:
                    raise InvalidArgument(f"invalid layer: {name!r} leads through a link or a file") from error
                os.close(current)
                current = following
            yield current, base
        finally:
            os.close(current)

    def _make_way(self, parent: int, base: str, member: tarfile.TarInfo) -> None:
        """Remove what is in the way; a directory stays where a directory comes."""
        try:
            existing = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not (stat.S_ISDIR(existing.st_mode) and member.isdir()):
            _remove(parent, base)

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, base: str) -> None:
        if member.isdir():
            try:
                os.mkdir(base, 0o700, dir_fd=parent)
            except FileExistsError:
                return
        elif member.isreg():
            self._regular(archive, member, parent, base)
        elif member.issym():
            os.symlink(member.linkname, base, dir_fd=parent)
        elif member.islnk():
            self._hard_link(member, parent, base)
        elif member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(base, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
        elif member.isfifo():
            os.mkfifo(base, 0o600, dir_fd=parent)
        else:
            raise InvalidArgument(f"invalid layer: {member.name!r} has the unknown type {member.type!r}")

    def _regular(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, base: str) -> None:
        self.size += member.size
        if self.size > MAX_UNPACKED:
            raise InvalidArgument(f"invalid layer: it unpacks to more than {MAX_UNPACKED} bytes")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        content = archive.extractfile(member)
        with os.fdopen(os.open(base, flags, 0o600, dir_fd=parent), "wb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, CHUNK)

    def _hard_link(self, member: tarfile.TarInfo, parent: int, base: str) -> None:
        target = _clean(member.linkname)
        with self._parent(target) as (directory, name):
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                raise InvalidArgument(
                    f"invalid layer: {member.name!r} links to {target!r}, which is not there"
                ) from None
            if stat.S_ISDIR(found.st_mode):
                raise InvalidArgument(f"invalid layer: {member.name!r} is a hard link to a directory")
            os.link(name, base, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)

    def _whiteout(self, parent: int, base: str, name: str, prefix: int) -> None:
        """Hide what the layers below have under a name; what this layer has there stays (image-spec §whiteouts)."""
        if base == OPAQUE:
            self._opaque(parent, name)
            return
        if base.startswith(AUFS):
            return  # aufs's own notes, which old images carry
        hidden = base.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            raise InvalidArgument(f"invalid layer: {name!r} is no whiteout")
        whited = name[:prefix] + hidden
        self.whited.add(whited)
        if whited in self.made:
            if self.overlay:
                _make_opaque(parent, hidden)
            return
        if _exists(parent, hidden):
            _remove(parent, hidden)
        if self.overlay:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)

    def _opaque(self, parent: int, name: str) -> None:
        if self.overlay:
            _make_opaque(parent, ".")
            return
        directory = name.rpartition("/")[0]
        for entry in os.listdir(parent):
            if (f"{directory}/{entry}" if directory else entry) not in self.made:
                _remove(parent, entry)

    def _attributes(self, parent: int, base: str, member: tarfile.TarInfo) -> None:
        """Owner before mode (chown clears setuid), extended attributes last (chown clears capabilities too)."""
        os.chown(base, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        path = f"/proc/self/fd/{parent}/{base}"
        if not member.issym():
            Path(path).chmod(stat.S_IMODE(member.mode))
        for key, value in member.pax_headers.items():
            name = key.removeprefix(XATTR)
            if key.startswith(XATTR) and not name.startswith(FORBIDDEN_XATTRS):
                _set_xattr(path, name, value.encode("utf-8", "surrogateescape"))
        os.utime(base, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)


def _clean(name: str) -> str:
    """Return a member's name without ``./``; ".." and NUL are refused, a leading slash means the layer's root."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise InvalidArgument(f"invalid layer: {name!r} leads out of it")
    return "/".join(parts)


def _set_xattr(path: str, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:  # as moby: not every file system, and no symlink, takes every attribute
        if error.errno != errno.ENOTSUP and not (error.errno == errno.EPERM and name.startswith("user.")):
            raise


def _make_opaque(parent: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.setxattr(f"/proc/self/fd/{parent}/{name}", "trusted.overlay.opaque", b"y")


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove(parent: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)
