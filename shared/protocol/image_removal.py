"""Jobs that remove images: by name or id, and all that nobody needs."""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from shared.protocol.job import Job, Record

__all__ = ["DeleteImage", "DeletedImage", "ImagesPruned", "PruneImages"]

Filters = dict[str, list[str]]


class DeletedImage(Record, omit_defaults=True):
    untagged: str = ""
    deleted: str = ""


class DeleteImage(Job[list[DeletedImage]], frozen=True, tag="image_delete"):
    """Untag, and delete with the last tag. Errors: NotFound, Conflict (a container uses it; several tags).

    ``platforms``: the image must be for each of them; one here is for one alone.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("image",)
    REPEATABLE: ClassVar[bool] = True
    image: str
    force: bool = False
    noprune: bool = False
    platforms: list[str] = field(default_factory=list)


class ImagesPruned(Record):
    """API 1.51 ImagePruneResponse; bytes."""

    images_deleted: list[DeletedImage] | None
    space_reclaimed: int


class PruneImages(Job[ImagesPruned], frozen=True, tag="images_prune"):
    """Remove the images that have no name; with the filter ``dangling=false`` all that no container was made of.

    What other images were made of stays. Filters: dangling, until, label, label!. Errors: InvalidArgument.

    Not repeatable: what the first asking removed, a second one could not tell of.
    """

    filters: Filters = field(default_factory=dict)
