"""Jobs on the contents of containers' root filesystems: what changed, copies in and out, export, commit, import.

The engine holds the handlers of the first half; the second half is between it and the graphdriver. Archives are tar;
they travel over tickets. Those that come in may be packed with gzip, bzip2, xz or zstd.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from shared.protocol.config import ContainerConfig
from shared.protocol.images import Image
from shared.protocol.job import Data, Job, Record
from shared.protocol.streams import Ticket

__all__ = [
    "ADDED",
    "DELETED",
    "MODIFIED",
    "CommitContainer",
    "CommitLayer",
    "ContainerChanges",
    "ContainerTree",
    "CopyFromContainer",
    "CopyToContainer",
    "ExportContainer",
    "ExportLayer",
    "FilesystemChange",
    "ImportImage",
    "ImportLayer",
    "LayerChanges",
    "NewImage",
    "PathArchive",
    "PathStat",
    "ReadPath",
    "StatContainerPath",
    "StatPath",
    "TreeMount",
    "WritePath",
]

MODIFIED, ADDED, DELETED = 0, 1, 2


class FilesystemChange(Record):
    """API 1.51 FilesystemChange; ``kind`` is `MODIFIED`, `ADDED` or `DELETED`."""

    path: str
    kind: int


class PathStat(Data, frozen=True):
    """A file's facts, as `docker cp` wants them.

    ``size`` in bytes; ``mode`` is a Go os.FileMode, whose bits are not those of st_mode; ``mtime`` is RFC 3339;
    ``link_target`` is where a symlink leads in the end, links on the way followed.
    """

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str = ""


class PathArchive(Data, frozen=True):
    stat: PathStat
    ticket: Ticket


class ContainerChanges(Job[list[FilesystemChange]], frozen=True, tag="container_changes"):
    """Say in which files a container differs from its image. A directory counts if something in it does."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str


class StatContainerPath(Job[PathStat], frozen=True, tag="container_archive_stat"):
    """Describe a file of a container. Errors: NotFound (the container, or the file)."""

    ARGS: ClassVar[tuple[str, ...]] = ("container", "path")
    REPEATABLE: ClassVar[bool] = True
    container: str
    path: str


class CopyFromContainer(Job[PathArchive], frozen=True, tag="container_copy"):
    """Copy a file or a directory out of a container; the first entry of the tar has the name of ``path``'s last part.

    What a running container has mounted is part of it; the kernel's file systems are not. Errors: NotFound.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("container", "path")
    REPEATABLE: ClassVar[bool] = True
    container: str
    path: str


class CopyToContainer(Job[None], frozen=True, tag="container_extract"):
    """Unpack the tar from the ticket of a STATUS (stream ``ticket``) into the directory ``path`` of a container.

    ``no_overwrite_dir_non_dir``: a directory is not replaced by something else, nor the other way round.
    ``copy_uid_gid``: all belongs to the user that the container runs as, if its configuration names one.
    What was unpacked before an error stays. Errors: NotFound, InvalidArgument (no directory, read-only, a bad archive).

    Not repeatable: the tar comes once, and what had come is lost with the process that read it.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("container", "path")
    container: str
    path: str
    no_overwrite_dir_non_dir: bool = False
    copy_uid_gid: bool = False


class ExportContainer(Job[Ticket], frozen=True, tag="export"):
    """Stream a container's whole root filesystem, without what is mounted into it."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str


class CommitContainer(Job[str], frozen=True, tag="commit"):
    """Make an image of a container's changes; returns its id.

    ``config`` in place of the container's own (what it leaves out is taken from there); ``changes`` are Dockerfile
    instructions applied to it. ``pause``: its processes stand still meanwhile.
    Errors: NotFound, InvalidArgument (the name, a change), Conflict (the container is being removed).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("container", "repo", "tag")
    REPEATABLE: ClassVar[bool] = True
    container: str
    repo: str = ""
    tag: str = ""
    author: str = ""
    comment: str = ""
    pause: bool = True
    changes: list[str] = field(default_factory=list)
    config: ContainerConfig | None = None


class ImportImage(Job[str], frozen=True, tag="import"):
    """Make an image of one layer from a tar; returns its id.

    ``src`` is ``-`` for the tar from the ticket of a STATUS (stream ``ticket``), or an http(s) URL; STATUS stream
    ``progress`` tells of its download. ``platform`` is ``os[/architecture[/variant]]``. Errors: InvalidArgument.

    Not repeatable: the tar comes once; of one from an URL the progress would be told twice.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("src", "repo", "tag")
    src: str
    repo: str = ""
    tag: str = ""
    message: str = ""
    changes: list[str] = field(default_factory=list)
    platform: str = ""


# -- engine → graphdriver


class TreeMount(Data, frozen=True):
    """A directory or file of the host, as a container sees it at ``target``."""

    source: str
    target: str
    read_only: bool


class ContainerTree(Data, frozen=True):
    """A container's files. ``name`` is what the user called it, for errors.

    ``pid`` is its init process, a hint: the files are those of its mount namespace if it still is in this container,
    else the root filesystem and ``mounts``. ``read_only``: its root filesystem is not to be written.
    """

    container: str
    name: str
    pid: int = 0
    read_only: bool = False
    mounts: list[TreeMount] = field(default_factory=list)


class LayerChanges(Job[list[FilesystemChange]], frozen=True, tag="layer_changes"):
    """Say in which files a container's layer differs from those below it. Errors: NotFound."""

    REPEATABLE: ClassVar[bool] = True
    container: str


class StatPath(Job[PathStat], frozen=True, tag="layer_stat"):
    """Describe a file of a container. Errors: NotFound (the container, or the file)."""

    REPEATABLE: ClassVar[bool] = True
    tree: ContainerTree
    path: str


class ReadPath(Job[PathArchive], frozen=True, tag="layer_read"):
    """Give a ticket for a path of a container as a tar. Errors: NotFound (the container, or the file)."""

    REPEATABLE: ClassVar[bool] = True
    tree: ContainerTree
    path: str


class WritePath(Job[None], frozen=True, tag="layer_write"):
    """As `CopyToContainer`; ``user`` owns all that is made, if one is named.

    Not repeatable: as `CopyToContainer`.
    """

    tree: ContainerTree
    path: str
    no_overwrite_dir_non_dir: bool = False
    user: str = ""


class ExportLayer(Job[Ticket], frozen=True, tag="layer_export"):
    """Give a ticket for the whole tree of a container as a tar. Errors: NotFound."""

    REPEATABLE: ClassVar[bool] = True
    container: str


class NewImage(Data, frozen=True, kw_only=True):
    """What an image that is made here will say of itself. ``parent`` is what its layer goes on top of.

    ``created`` is RFC 3339; ``tags`` are complete references; ``action`` the event that tells of it. ``order``: the id
    of the job that it is made for, if that is done when the image is on record.
    """

    config: ContainerConfig
    architecture: str
    os: str
    variant: str = ""
    author: str = ""
    comment: str = ""
    created: str
    created_by: str = ""
    parent: Image | None = None
    tags: list[str] = field(default_factory=list)
    action: str
    order: str = ""


class CommitLayer(Job[str], frozen=True, tag="layer_commit"):
    """Make a layer of a container's changes and record an image with it (`SetImage`); returns its id.

    ``mounted``: paths that were made in it to mount something on, and are no changes unless there is something there.
    Killed at any point it leaves nothing that `GraphCollect` does not remove.
    """

    REPEATABLE: ClassVar[bool] = True
    container: str
    image: NewImage
    mounted: list[str] = field(default_factory=list)


class ImportLayer(Job[str], frozen=True, tag="graph_import"):
    """As `CommitLayer`, with the layer from ``src`` (as in `ImportImage`).

    Not repeatable: as `ImportImage`.
    """

    src: str
    image: NewImage
