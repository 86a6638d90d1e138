"""Images: the records and tags; blobs and layers are the graphdriver's."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from services.engine.store import Store
from shared.protocol import Image, InvalidArgument, NotFound
from shared.protocol.reference import familiar, normalize, split

__all__ = ["Images"]

HEX = re.compile(r"[0-9a-f]{1,64}")


class Images:
    """Those that there are. One that was removed by force stays on record for the containers that were made from it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        found = store.images()
        self._images = {image.id: image for image in found if not image.removed}
        self._removed = {image.id: image for image in found if image.removed}
        self._tags = {ref: image for ref, image in store.tags().items() if image in self._images}
        self._held: defaultdict[str, set[str]] = defaultdict(set)  # by builds under way

    def __iter__(self) -> Iterator[Image]:
        return iter(list(self._images.values()))

    def __len__(self) -> int:
        return len(self._images)

    def by_id(self, image_id: str) -> Image | None:
        return self._images.get(image_id)

    def require(self, image_id: str) -> Image:
        image = self._images.get(image_id)
        if image is None:
            raise NotFound(f"No such image: {image_id}")
        return image

    def of_container(self, image_id: str) -> Image:
        """Return what a container was made from, were it removed."""
        return self._removed.get(image_id) or self.require(image_id)

    def removed(self) -> list[Image]:
        return list(self._removed.values())

    def references(self, image_id: str) -> list[str]:
        """Return an image's complete references by tag and by digest, sorted."""
        return sorted(ref for ref, image in self._tags.items() if image == image_id)

    def tags(self, image_id: str) -> list[str]:
        """Return an image's complete references by tag, sorted."""
        return [ref for ref in self.references(image_id) if "@" not in ref]

    def digests(self, image_id: str) -> list[str]:
        """Return an image's complete references by the digest that it has at registries, sorted."""
        return [ref for ref in self.references(image_id) if "@" in ref]

    def tag_of(self, ref: str) -> str | None:
        """Return the complete reference if ``ref`` is one that exists, None if it must be an id."""
        full = _complete(ref)
        return full if full in self._tags else None

    def is_meant(self, image: str, ref: str) -> bool:
        """Say whether a reference by which an image was found once still leads to it."""
        tagged = self._tags.get(_complete(ref))
        if tagged is not None:
            return tagged == image
        return image in self._images and image.removeprefix("sha256:").startswith(ref.removeprefix("sha256:"))

    def of_repository(self, name: str) -> dict[str, Image]:
        """Return the tags of a repository, by its complete name, with their images."""
        found = {ref.removeprefix(f"{name}:"): image for ref, image in self._tags.items() if ref.startswith(f"{name}:")}
        return {tag: self._images[image] for tag, image in sorted(found.items())}

    def find(self, ref: str) -> Image:
        """Look up by tag, id or unambiguous id prefix. Errors: NotFound, InvalidArgument (no reference, ambiguous)."""
        if not ref:
            raise InvalidArgument("no image was named")
        tag = self.tag_of(ref)
        if tag is not None:
            return self._images[self._tags[tag]]
        digits = ref.removeprefix("sha256:")
        if HEX.fullmatch(digits):
            matches = [image for image in self if image.id.removeprefix("sha256:").startswith(digits)]
            if len(matches) > 1:
                raise InvalidArgument(f"image prefix is ambiguous: {ref}")
            if matches:
                return matches[0]
            raise NotFound(f"No such image: {_display(ref)}")
        raise NotFound(f"No such image: {familiar(normalize(ref))}")

    def put(self, image: Image, tags: list[str]) -> None:
        """Record an image and tag it; a tag moves from the image that had it."""
        if (known := self._images.get(image.id)) is not None:
            image = _come_again(image, known)
        with self._store.transaction():
            self._store.put_image(image)
            for tag in tags:
                self._store.put_tag(tag, image.id)
        self._removed.pop(image.id, None)
        self._images[image.id] = image
        self._tags |= dict.fromkeys(tags, image.id)

    def hold(self, build: str, image_id: str) -> None:
        """Keep an image that a build has come to from being pruned."""
        self._held[build].add(image_id)

    def release(self, build: str) -> None:
        self._held.pop(build, None)

    def is_held(self, image_id: str) -> bool:
        return any(image_id in held for held in self._held.values())

    def held_by(self) -> list[str]:
        """Return the builds that hold images."""
        return list(self._held)

    def untag(self, tag: str) -> None:
        self._store.delete_tag(tag)
        del self._tags[tag]

    def delete(self, image: Image, *, for_containers: bool = False) -> None:
        """Remove the record and all its tags; ``for_containers``: it stays for those that were made from it."""
        with self._store.transaction():
            for tag in self.references(image.id):
                self.untag(tag)
            if for_containers:
                self._removed[image.id] = msgspec.structs.replace(image, removed=True)
                self._store.put_image(self._removed[image.id])
            else:
                self._store.delete_image(image.id)
        del self._images[image.id]

    def forget(self, image: Image) -> None:
        """Remove the record of one that was removed."""
        self._store.delete_image(image.id)
        del self._removed[image.id]


def _come_again(image: Image, known: Image) -> Image:
    """Return an image that is here already with what is known of it, and cannot be told from an archive or a registry.

    Its parent is what it was made of here; its manifest is believed as long as it names these layers.
    """
    return msgspec.structs.replace(
        image,
        parent=image.parent or known.parent,
        manifest=image.manifest or (known.manifest if known.layers == image.layers else None),
        last_tagged=image.last_tagged or known.last_tagged,
    )


@functools.lru_cache(4096)
def _complete(ref: str) -> str:
    """Return a reference with all its parts, empty if it is none. Of a tag and a digest together, the digest counts."""
    try:
        domain, path, _, digest = split(ref)
        return f"{domain}/{path}@{digest}" if digest else normalize(ref)
    except InvalidArgument:
        return ""


def _display(ref: str) -> str:
    try:
        return familiar(normalize(ref))
    except InvalidArgument:
        return ref
