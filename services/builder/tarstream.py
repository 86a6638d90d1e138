"""Tar stream: entries of sources as the bytes of a tar, one after another."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from services.builder.sources import Entry, Source
from shared.bus.context import check_cancelled

__all__ = ["Item", "Owner", "chunks"]

CHUNK = 1 << 20
BLOCK = tarfile.BLOCKSIZE
Owner = tuple[int, int] | None


@dataclass(frozen=True)
class Item:
    """An entry of a source that becomes ``name`` in the tar. ``owner`` and ``mode``: in place of its own."""

    name: str
    entry: Entry
    source: Source | None = None
    path: str = ""
    owner: Owner = None
    mode: int | None = None


def chunks(items: Iterable[Item]) -> Iterator[bytes]:
    """Yield a tar's bytes; of a file with several names the bytes are there once. Errors: OSError, Cancelled."""
    named: dict[Any, str] = {}
    for item in items:
        check_cancelled()
        member = _member(item)
        identity = (id(item.source), item.entry.identity)
        if item.entry.is_file and item.entry.identity is not None and identity in named:
            member.type, member.linkname, member.size = tarfile.LNKTYPE, named[identity], 0
        elif item.entry.is_file and item.entry.identity is not None:
            named[identity] = item.name
        yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if member.type == tarfile.REGTYPE and member.size:
            yield from _content(item, member.size)
    yield b"\0" * (2 * BLOCK)


def _content(item: Item, size: int) -> Iterator[bytes]:
    assert item.source is not None
    left = size
    with item.source.open(item.path, item.entry) as file:
        while left:
            data = file.read(min(CHUNK, left))
            if not data:
                raise OSError(f"{item.path} became shorter while it was copied")
            left -= len(data)
            yield data
    yield b"\0" * (-size % BLOCK)


def _member(item: Item) -> tarfile.TarInfo:
    entry = item.entry
    member = tarfile.TarInfo(item.name)
    member.type, member.mode = entry.kind, entry.mode
    if item.mode is not None and entry.kind != tarfile.SYMTYPE:
        member.mode = item.mode
    member.uid, member.gid = item.owner if item.owner is not None else (entry.uid, entry.gid)
    member.size = entry.size if entry.is_file else 0
    member.linkname = entry.link
    member.devmajor, member.devminor = entry.device
    member.mtime = entry.mtime_ns // 1_000_000_000
    member.pax_headers = dict(entry.xattrs)
    if entry.mtime_ns % 1_000_000_000:
        seconds, fraction = divmod(entry.mtime_ns, 1_000_000_000)
        member.pax_headers["mtime"] = f"{seconds}.{fraction:09d}"
    return member
