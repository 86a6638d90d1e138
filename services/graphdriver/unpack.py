"""Unpack: members of a tar become files, and nothing gets out of the place they belong to.

What differs between an image's layer and an archive for a container is their `Place`: how directories on the way are
opened, and what a name may stand for. Here every member is made by a name of one part under its directory's
descriptor, and gets its attributes through a descriptor of itself: whoever else is at work in that directory cannot
have them put on something else.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Protocol

from shared.bus.context import check_cancelled
from shared.protocol import InvalidArgument
from shared.runtime.compression import MAX_UNPACKED
from shared.runtime.members import TAR_ERRORS, Forward, Source, open_tar

__all__ = ["FORBIDDEN_XATTRS", "MAX_UNPACKED", "NOFOLLOW_DIRECTORY", "Place", "XATTR", "remove", "unpack"]

XATTR = "SCHILY.xattr."
FORBIDDEN_XATTRS = ("trusted.overlay.", "user.overlay.")  # they would speak to overlayfs
NOFOLLOW_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
SHOWN = 200  # characters of a name
NAME_ERRORS = (errno.ENAMETOOLONG, errno.ENOENT, errno.EINVAL, errno.ELOOP)  # the archive's fault, not the disk's
MAX_ID = 2**32 - 2  # the next one means "leave it" to chown(2)
MAX_SECONDS = 1 << 33  # in nanoseconds they are still 63 bits


class Place(Protocol):
    """Where an archive goes. ``kind``: what it is called in errors.

    ``lasting``: it is somebody's and not made of the archive: no member changes its own attributes, and an archive of
    no byte at all is one of no member (moby, go-archive's Unpack).
    """

    kind: str
    lasting: bool

    def open_parent(self, name: str, parts: list[str]) -> int:
        """Open the directory ``parts`` that is to hold the member ``name``, made where it is missing."""
        ...

    def claims(self, parent: int, base: str, name: str) -> bool:
        """Say whether a member stands for something else than a file of its name; that has been done then."""
        ...

    def check_replaced(self, name: str, *, is_directory: bool, by_directory: bool) -> None:
        """Refuse (InvalidArgument), or let what is there be replaced."""
        ...

    def made(self, parent: int, base: str, name: str) -> None: ...


def unpack(source: Source, place: Place, owner: tuple[int, int] | None = None) -> int:
    """Unpack an uncompressed tar stream; returns the bytes of its regular files.

    ``owner``: (uid, gid) of all that is made, in place of what the archive says.
    Errors: InvalidArgument (the archive is broken or tries to leave), OSError. What was unpacked before stays.
    """
    try:
        return _Unpacking(place, owner).run(source)
    except TAR_ERRORS as error:
        raise InvalidArgument(f"invalid {place.kind}: {error}") from error
    except NotADirectoryError as error:
        why = f"a name leads through something that is no directory: {_told(error)}"
        raise InvalidArgument(f"invalid {place.kind}: {why}") from error
    except OSError as error:
        if error.errno not in NAME_ERRORS:
            raise
        raise InvalidArgument(f"invalid {place.kind}: {_told(error)}") from error


def _told(error: OSError) -> str:
    """Return which name it is about, as far as that can be read, and what is wrong with it."""
    if not isinstance(error.filename, str):
        return str(error.strerror)
    name = error.filename if len(error.filename) <= SHOWN else f"{error.filename[:SHOWN]}…"
    return f"{name!r}: {error.strerror}"


@dataclass
class _Unpacking:
    place: Place
    owner: tuple[int, int] | None
    size: int = 0
    directory_times: dict[str, int] = field(default_factory=dict)  # set at the end: what is made inside changes them

    def run(self, source: Source) -> int:
        stream = Forward(source)
        if self.place.lasting and stream.is_empty():
            return 0
        with open_tar(stream) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or a million files are a gigabyte
                check_cancelled()
                self._member(stream, member)
                stream.begin_member()
        for name, mtime in self.directory_times.items():
            with self._parent(name) as (parent, base), suppress(FileNotFoundError):
                os.utime(base or ".", ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)
        return self.size

    def _member(self, stream: Forward, member: tarfile.TarInfo) -> None:
        name = self._clean(member.name)
        with self._parent(name) as (parent, base):
            if not base:
                if not member.isdir():
                    raise InvalidArgument(f"invalid {self.place.kind}: its root, {member.name!r}, is no directory")
                if self.place.lasting:
                    return
                with _opened(parent, ".") as descriptor:
                    self._attributes(descriptor, member)
                return
            if self.place.claims(parent, base, name):
                return
            if member.isreg():
                self._regular(stream, member, parent, base, name)
            else:
                self._make_way(parent, base, name, member)
                self._make(member, parent, base)
            self.place.made(parent, base, name)
        if member.isdir():
            self.directory_times[name] = _mtime(member)

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """Open the directory that holds ``name``; yields it with the last part."""
        *parents, base = name.split("/") if name else [""]
        parent = self.place.open_parent(name, parents)
        try:
            yield parent, base
        finally:
            os.close(parent)

    def _clean(self, name: str) -> str:
        """Return a member's name without ``./``; ".." and NUL are refused, a leading slash means the place's root."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in name:
            raise InvalidArgument(f"invalid {self.place.kind}: {name!r} leads out of it")
        return "/".join(parts)

    def _make_way(self, parent: int, base: str, name: str, member: tarfile.TarInfo) -> None:
        """Remove what is in the way; a directory stays where a directory comes."""
        try:
            existing = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        is_directory = stat.S_ISDIR(existing.st_mode)
        if is_directory and member.isdir():
            return
        self.place.check_replaced(name, is_directory=is_directory, by_directory=member.isdir())
        remove(parent, base)

    def _regular(self, stream: Forward, member: tarfile.TarInfo, parent: int, base: str, name: str) -> None:
        try:
            descriptor = os.open(base, NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._make_way(parent, base, name, member)
            descriptor = os.open(base, NEW_FILE, 0o600, dir_fd=parent)
        try:
            self._content(stream, member, descriptor)
            self._attributes(descriptor, member)
        finally:
            os.close(descriptor)

    def _make(self, member: tarfile.TarInfo, parent: int, base: str) -> None:
        if member.islnk():
            self._hard_link(member, parent, base)
            return
        self._special(member, parent, base)
        with _opened(parent, base) as descriptor:
            if stat.S_IFMT(os.fstat(descriptor).st_mode) != KINDS[member.type]:
                raise InvalidArgument(f"{base!r} was replaced while it was made")
            self._attributes(descriptor, member)

    def _special(self, member: tarfile.TarInfo, parent: int, base: str) -> None:
        kind = KINDS.get(member.type)
        if kind is None:
            raise InvalidArgument(f"invalid {self.place.kind}: {member.name!r} has the unknown type {member.type!r}")
        if member.isdir():
            with suppress(FileExistsError):
                os.mkdir(base, 0o700, dir_fd=parent)
        elif member.issym():
            os.symlink(member.linkname, base, dir_fd=parent)
        else:
            os.mknod(base, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)

    def _content(self, stream: Forward, member: tarfile.TarInfo, descriptor: int) -> None:
        """Write a file's bytes; the holes of a sparse one stay holes."""
        self.size += member.size
        if member.size < 0 or self.size > MAX_UNPACKED:
            raise InvalidArgument(f"invalid {self.place.kind}: it unpacks to more than {MAX_UNPACKED} bytes")
        segments: list[tuple[int, int]] | None = member.sparse  # type: ignore[assignment]  # typeshed errs here
        for offset, size in [(0, member.size)] if segments is None else segments:
            if not (offset >= 0 and size >= 0 and offset + size <= member.size):
                raise InvalidArgument(f"invalid {self.place.kind}: {member.name!r} has data outside of itself")
            if segments is not None:
                os.lseek(descriptor, offset, os.SEEK_SET)
            for piece in stream.pieces(size):
                _write(descriptor, piece)
        if segments is not None:
            os.ftruncate(descriptor, member.size)

    def _hard_link(self, member: tarfile.TarInfo, parent: int, base: str) -> None:
        target = self._clean(member.linkname)
        what = f"invalid {self.place.kind}: {member.name!r}"
        with self._parent(target) as (directory, name):
            try:
                found = os.stat(name or ".", dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                raise InvalidArgument(f"{what} links to {target!r}, which is not there") from None
            if stat.S_ISDIR(found.st_mode):
                raise InvalidArgument(f"{what} is a hard link to a directory")
            os.link(name, base, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)

    def _attributes(self, descriptor: int, member: tarfile.TarInfo) -> None:
        """Owner before mode (chown clears setuid), extended attributes last (chown clears capabilities too)."""
        uid, gid = self.owner or (member.uid, member.gid)
        if not (0 <= uid <= MAX_ID and 0 <= gid <= MAX_ID):
            raise InvalidArgument(f"invalid {self.place.kind}: {member.name!r} belongs to {uid}:{gid}")
        # what is only a handle (O_PATH) has to be named
        target: int | str = descriptor if member.isreg() else f"/proc/self/fd/{descriptor}"
        os.chown(target, uid, gid)
        if not member.issym():
            os.chmod(target, stat.S_IMODE(member.mode))  # noqa: PTH101  (it may be a descriptor)
        for key, value in member.pax_headers.items():
            name = key.removeprefix(XATTR)
            if key.startswith(XATTR) and not name.startswith(FORBIDDEN_XATTRS):
                _set_xattr(target, name, value.encode("utf-8", "surrogateescape"))
        mtime = _mtime(member)
        os.utime(target, ns=(mtime, mtime))


KINDS = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextmanager
def _opened(parent: int, base: str) -> Iterator[int]:
    """Open what was just made, whatever it is, as a handle for its attributes."""
    descriptor = os.open(base, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mtime(member: tarfile.TarInfo) -> int:
    """Return nanoseconds since the epoch; tarfile keeps a float, which is too short for them."""
    if isinstance(member.mtime, int) and 0 <= member.mtime < MAX_SECONDS and "mtime" not in member.pax_headers:
        return member.mtime * 1_000_000_000
    try:
        exact = Decimal(member.pax_headers.get("mtime", member.mtime))
        nanoseconds = int(exact * 1_000_000_000)
    except (InvalidOperation, ValueError, OverflowError):
        return 0
    return nanoseconds if abs(nanoseconds) < 1 << 63 else 0


def _set_xattr(path: int | str, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:  # as moby: not every file system, and no symlink, takes every attribute
        if error.errno != errno.ENOTSUP and not (error.errno == errno.EPERM and name.startswith("user.")):
            raise


def remove(parent: int, name: str) -> None:
    """Remove a file or a whole directory."""
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)
