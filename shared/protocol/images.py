"""Jobs on images. Records are the engine's; blobs and layers are the graphdriver's."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import UNSET, UnsetType, field

from shared.protocol.config import ContainerConfig
from shared.protocol.job import Data, Job, Record
from shared.protocol.streams import Ticket

__all__ = [
    "CollectGarbage",
    "Descriptor",
    "DrawImages",
    "ExportImages",
    "GetImage",
    "HistoryEntry",
    "Image",
    "ImageHistory",
    "ImageInspect",
    "ImageSummary",
    "InspectImage",
    "ListImages",
    "LoadImages",
    "NameImage",
    "SaveImages",
    "SavedImage",
    "SetImage",
    "TagImage",
    "TarLayer",
]

Filters = dict[str, list[str]]


class Descriptor(Data, frozen=True):
    """A blob in the content store (OCI image-spec, descriptor). ``size`` in bytes."""

    media_type: str
    digest: str
    size: int


class Image(Data, frozen=True, kw_only=True):
    """An image's record. ``id`` is the digest of its config blob, ``sha256:…``.

    ``layers`` are the blobs, ``diff_ids`` the digests of their uncompressed tars, ``chain_ids`` the layers on disk
    (OCI image-spec 1.1, config §layer ChainID), all bottom first; ``layer_sizes`` the unpacked bytes of each.
    ``parent`` is the id of the image that it was made from here; ``manifest`` the blob that names these ``layers`` to
    registries, of an image that came from one. Of one that is ``removed`` only containers know. ``last_tagged``: when a
    user gave it a name here, in nanoseconds since the epoch; 0 for never.
    """

    id: str
    architecture: str
    os: str
    created: str
    author: str = ""
    comment: str = ""
    variant: str = ""
    config: ContainerConfig
    config_size: int
    layers: list[Descriptor]
    diff_ids: list[str]
    chain_ids: list[str]
    layer_sizes: list[int]
    history: list[dict[str, Any]]
    parent: str = ""
    manifest: Descriptor | None = None
    removed: bool = False
    last_tagged: int = 0

    @property
    def names(self) -> set[str]:
        """The digests of the blobs, and the chain ids, that the image needs."""
        blobs = self.layers if self.manifest is None else [*self.layers, self.manifest]
        return {self.id, *(blob.digest for blob in blobs), *self.chain_ids}


class SetImage(Job[None], frozen=True, tag="image_set"):
    """graphdriver → engine: record an image whose blobs and layers are on disk, and tag it.

    ``tags`` are complete references, as ``docker.io/library/busybox:latest``, or with a digest of a registry's.
    ``action`` is the event that tells of it; after a ``push`` an image that was deleted meanwhile stays so. ``order``:
    the id of the job that is done with that; an image for one that is done already is not recorded.
    """

    REPEATABLE: ClassVar[bool] = True

    image: Image
    tags: list[str] = field(default_factory=list)
    action: str = "load"
    order: str = ""


class LoadImages(Job[None], frozen=True, tag="load"):
    """Load a docker archive or an OCI layout (tar, plain or compressed), from the ticket's connection.

    STATUS stream ``ticket`` names where to send the tar (shut down the writing side at its end); STATUS stream
    ``progress`` carries Docker's JSON messages. ``platform``: only what is for it, as ``os/architecture/variant``.
    Errors: InvalidArgument (what is wrong with the archive).

    Not repeatable: the archive comes once, and what had come is lost with the process that read it.
    """

    quiet: bool = True
    platform: str = ""


class SavedImage(Data, frozen=True):
    image: Image
    tags: list[str]


class SaveImages(Job[Ticket], frozen=True, tag="image_export"):
    """Export images as a docker archive that is an OCI layout too. ``images`` are references or ids.

    Errors: NotFound (or they are not for ``platform``, as ``os/architecture/variant``).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("images",)
    REPEATABLE: ClassVar[bool] = True
    images: list[str]
    platform: str = ""


class ExportImages(Job[Ticket], frozen=True, tag="graph_export"):
    """engine → graphdriver: stream these images as one archive."""

    REPEATABLE: ClassVar[bool] = True
    images: list[SavedImage]


class CollectGarbage(Job[int], frozen=True, tag="graph_gc"):
    """Remove what lies in the store and belongs to no image and no container; returns the bytes freed.

    It is done at each boot, when the graphdriver comes back, and with each image that is removed. What a load or a
    pull that is under way has written is kept; where an image's record cannot be read, everything is.
    """

    REPEATABLE: ClassVar[bool] = True


class ImageSummary(Record):
    """API 1.51 ImageSummary; ``created`` in seconds since the epoch, sizes in bytes, -1 for what was not counted.

    ``shared_size`` is that of the layers which other images have too; ``containers`` are those made from it.
    """

    id: str
    parent_id: str
    repo_tags: list[str]
    repo_digests: list[str]
    created: int
    size: int
    shared_size: int
    labels: dict[str, str] | None
    containers: int
    virtual_size: int | UnsetType = UNSET  # for clients of API < 1.44


class ListImages(Job[list[ImageSummary]], frozen=True, tag="images"):
    """List images, newest first. ``shared_size``: say how much of each is in other images too."""

    REPEATABLE: ClassVar[bool] = True
    all: bool = False
    digests: bool = False
    shared_size: bool = False
    filters: Filters = field(default_factory=dict)


class ImageInspect(Record):
    """API 1.51 ImageInspect."""

    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    parent: str
    comment: str
    created: str
    docker_version: str
    author: str
    config: ContainerConfig
    architecture: str
    variant: str
    os: str
    size: int
    graph_driver: dict[str, Any]
    root_fs: dict[str, Any] = field(name="RootFS")
    metadata: dict[str, Any]
    virtual_size: int | UnsetType = UNSET  # for clients of API < 1.44
    container: str | UnsetType = UNSET  # for clients of API < 1.45: what it was committed of
    container_config: ContainerConfig | UnsetType = UNSET  # for clients of API < 1.45


class InspectImage(Job[ImageInspect], frozen=True, tag="image_inspect"):
    """Tell all that there is to know of an image. ``image``: a reference, or an id or its beginning.

    Errors: NotFound (or it is not for ``platform``, as ``os/architecture/variant``).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("image",)
    REPEATABLE: ClassVar[bool] = True
    image: str
    platform: str = ""


class HistoryEntry(Record):
    id: str
    created: int
    created_by: str
    tags: list[str] | None
    size: int
    comment: str


class ImageHistory(Job[list[HistoryEntry]], frozen=True, tag="history"):
    """List the steps that made an image, newest first. ``platform`` and errors: as `InspectImage`."""

    ARGS: ClassVar[tuple[str, ...]] = ("image",)
    REPEATABLE: ClassVar[bool] = True
    image: str
    platform: str = ""


class TagImage(Job[None], frozen=True, tag="tag"):
    """Give an image one more reference. ``tag`` empty: ``latest``."""

    ARGS: ClassVar[tuple[str, ...]] = ("image", "repo", "tag")
    REPEATABLE: ClassVar[bool] = True
    image: str
    repo: str
    tag: str = ""


class NameImage(Job[None], frozen=True, tag="image_tag"):
    """`TagImage` with the new name first, and the tag in it, as the 2014 daemon's own jobs had it."""

    ARGS: ClassVar[tuple[str, ...]] = ("name", "image")
    REPEATABLE: ClassVar[bool] = True
    name: str
    image: str


class GetImage(Job[dict[str, str]], frozen=True, tag="image_get"):
    """Return the facts Created, Author, Os, Architecture, DockerVersion, Id and Parent; nothing if there is none."""

    ARGS: ClassVar[tuple[str, ...]] = ("image",)
    REPEATABLE: ClassVar[bool] = True
    image: str


class TarLayer(Job[Ticket], frozen=True, tag="image_tarlayer"):
    """Stream a layer's tar, as its diff id says it is; ``layer`` counts from the bottom, -1 is the topmost.

    Errors: NotFound (no such image, or it has no such layer).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("image", "layer")
    REPEATABLE: ClassVar[bool] = True
    image: str
    layer: int = -1


class DrawImages(Job[str], frozen=True, tag="viz"):
    """Draw the layers of all images and their names, as a graph in the language of Graphviz."""

    REPEATABLE: ClassVar[bool] = True
