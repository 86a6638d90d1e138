"""Build cache: which image a step would make, if it was made before.

Without ``cachefrom`` it is the newest child of the parent that the same step made, with the same configuration. With
it only those images count, and what they were made of: a child that leads to one of them, or one of them whose
history begins as the parent's and goes on with this step (as moby's image cache has it).
"""

from __future__ import annotations

from collections.abc import Iterable

from services.engine.images import Images
from shared.protocol import ContainerConfig, DockyardError, Image, encode_body
from shared.runtime.platforms import Platform, normal

__all__ = ["find_cached"]


def find_cached(
    images: Images,
    parent: Image | None,
    created_by: str,
    config: ContainerConfig,
    cachefrom: list[str],
    platform: Platform,
) -> tuple[Image | None, Image | None]:
    """Return (the image, None), (None, the image whose history has this step), or (None, None).

    ``platform``: what an image is for that has no parent.
    """
    wanted = encode_body(config)
    children = [
        image
        for image in images
        if image.parent == (parent.id if parent else "")
        and len(image.history) == len(parent.history if parent else []) + 1
        and image.history[-1].get("created_by", "") == created_by
        and encode_body(image.config) == wanted
        and (parent is not None or _is_for(image, platform))
    ]
    children.sort(key=lambda image: image.created, reverse=True)
    if not cachefrom:
        return (children[0] if children else None), None
    sources = list(_present(images, cachefrom))
    for child in children:
        if any(child.id in _line(images, source) for source in sources):
            return child, None
    for source in sources:
        if (parent is not None or _is_for(source, platform)) and _goes_on(source, parent, created_by):
            return None, source
    return None, None


def _present(images: Images, references: list[str]) -> Iterable[Image]:
    for reference in references:
        try:
            yield images.find(reference)
        except DockyardError:
            continue


def _line(images: Images, image: Image | None) -> set[str]:
    """Return the ids of an image and of all that it was made of here."""
    found: set[str] = set()
    while image is not None and image.id not in found:
        found.add(image.id)
        image = images.by_id(image.parent)
    return found


def _goes_on(source: Image, parent: Image | None, created_by: str) -> bool:
    """Say whether the history of ``source`` is that of ``parent`` and then this step, with the same layers."""
    before = parent.history if parent else []
    layers = parent.diff_ids if parent else []
    count = len(before)
    if len(source.history) <= count or source.diff_ids[: len(layers)] != layers:
        return False
    if [_told(entry) for entry in source.history[:count]] != [_told(entry) for entry in before]:
        return False
    entry = source.history[count]
    has_layer = bool(entry.get("empty_layer")) or len(source.diff_ids) > len(layers)
    return entry.get("created_by", "") == created_by and has_layer


def _is_for(image: Image, platform: Platform) -> bool:
    return normal(image.os, image.architecture, image.variant) == platform


def _told(entry: dict[str, object]) -> tuple[object, bool]:
    return entry.get("created_by", ""), bool(entry.get("empty_layer"))
