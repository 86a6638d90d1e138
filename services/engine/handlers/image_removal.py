"""Images: delete and prune. Nobody's layers are collected by the graphdriver; those that a container has stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.engine import filters
from services.engine.graph import users_of
from services.engine.handlers.images import SHORT, created, tell
from services.engine.platform import check_platform
from shared.bus.handlers import Handlers
from shared.protocol import Conflict, DeletedImage, DeleteImage, Image, ImagesPruned, PruneImages
from shared.protocol.reference import familiar, repository_of

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()


@jobs.handles(DeleteImage)
async def delete(engine: Engine, job: DeleteImage) -> list[DeletedImage]:
    """Untag; with the last tag, or by id, delete. Errors as the API's DELETE /images/{name}."""
    image = engine.images.find(job.image)
    for platform in job.platforms:
        check_platform(job.image, image, platform)
    reference = engine.images.tag_of(job.image)
    tags, references = engine.images.tags(image.id), engine.images.references(image.id)
    if reference is None:
        _refuse_by_id(engine, image, referenced=len(tags) > 1, force=job.force)
    doomed = references if reference is None else _with_digests(reference, references)
    last = len(doomed) == len(references)
    users = users_of(engine, image)
    if reference is not None and last and users and not job.force:
        what = f"container {users[0][:SHORT]} is using its referenced image {_short(image)}"
        raise _conflict(familiar(reference), what)
    removed = last and not _has_children(engine, image) and _running(engine, users) is None
    with engine.store.transaction():
        gone = [_untag(engine, image, name) for name in doomed]
        if removed:
            gone += _delete(engine, image)
            if not job.noprune:
                gone += _delete_parents(engine, image)
        engine.done(DeleteImage, gone)
    if removed:
        await engine.graph.collect()
    return gone


def _with_digests(reference: str, references: list[str]) -> list[str]:
    """Return what goes with a reference: with a repository's last tag, its digests."""
    of_same = [name for name in references if repository_of(name) == repository_of(reference)]
    if "@" in reference or any("@" not in name and name != reference for name in of_same):
        return [reference]
    return [reference, *(name for name in of_same if name != reference)]


def _untag(engine: Engine, image: Image, name: str) -> DeletedImage:
    engine.images.untag(name)
    tell(engine, "untag", image, image.id)
    return DeletedImage(untagged=familiar(name))


def _delete(engine: Engine, image: Image) -> list[DeletedImage]:
    in_use = bool(users_of(engine, image))
    engine.images.delete(image, for_containers=in_use)
    engine.events.append("image", "delete", image.id, {"name": image.id})
    if in_use:
        return [DeletedImage(deleted=image.id)]
    kept = {chain for other in engine.images for chain in other.chain_ids}
    layers = [chain for chain in reversed(image.chain_ids) if chain not in kept]
    return [DeletedImage(deleted=image.id), *(DeletedImage(deleted=chain) for chain in layers)]


def _has_children(engine: Engine, image: Image) -> bool:
    return any(other.parent == image.id for other in engine.images)


def _delete_parents(engine: Engine, image: Image) -> list[DeletedImage]:
    """Delete what an image was made of, as far as nobody has named it, or uses it, or made something else of it."""
    gone: list[DeletedImage] = []
    parent = engine.images.by_id(image.parent)
    while parent is not None and not engine.images.references(parent.id):
        if _has_children(engine, parent) or users_of(engine, parent) or engine.images.is_held(parent.id):
            break
        gone += _delete(engine, parent)
        parent = engine.images.by_id(parent.parent)
    return gone


def _refuse_by_id(engine: Engine, image: Image, *, referenced: bool, force: bool) -> None:
    """Errors: Conflict. ``referenced``: by more than one tag, which can be forced, as can a stopped container."""
    users, short = users_of(engine, image), _short(image)
    if _has_children(engine, image):
        raise _conflict(short, "image has dependent child images", hard=True)
    if running := _running(engine, users):
        raise _conflict(short, f"image is being used by running container {running[:SHORT]}", hard=True)
    if referenced and not force:
        raise _conflict(short, "image is referenced in multiple repositories")
    if users and not force:
        raise _conflict(short, f"image is being used by stopped container {users[0][:SHORT]}")


def _conflict(what: str, why: str, *, hard: bool = False) -> Conflict:
    return Conflict(f"conflict: unable to delete {what} ({'cannot' if hard else 'must'} be forced) - {why}")


def _short(image: Image) -> str:
    return image.id.removeprefix("sha256:")[:SHORT]


def _running(engine: Engine, users: list[str]) -> str | None:
    """Return the first container of some that runs."""
    found = (engine.containers.by_id(user) for user in users)
    return next((container.id for container in found if container is not None and container.record.running), None)


@jobs.handles(PruneImages)
async def prune(engine: Engine, job: PruneImages) -> ImagesPruned:
    named_too = not filters.boolean(job.filters, "dangling", default=True)
    wanted = filters.prune_filter({key: values for key, values in job.filters.items() if key != "dangling"})
    gone: list[DeletedImage] = []
    for image in sorted(engine.images, key=created, reverse=True):
        tags = engine.images.tags(image.id)
        kept = not named_too if tags else _has_children(engine, image) or engine.images.is_held(image.id)
        if kept or users_of(engine, image) or not wanted(int(created(image) * 1e9), image.config.labels or {}):
            continue
        gone += [_untag(engine, image, name) for name in engine.images.references(image.id)]
        gone += _delete(engine, image)
    reclaimed = await engine.graph.collect()  # also of what pulls and loads left that came to nothing
    engine.events.append("image", "prune", "", {"reclaimed": str(reclaimed)})
    return ImagesPruned(images_deleted=gone or None, space_reclaimed=reclaimed)
