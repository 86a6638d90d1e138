"""Images: list, inspect, history, tag, delete, prune, export; and what the graphdriver tells of what it has loaded."""

from __future__ import annotations

import fnmatch
from datetime import datetime
from typing import TYPE_CHECKING

from services.engine import filters
from services.engine.disk import count_shared
from shared.bus.handlers import Handlers
from shared.protocol import (
    Conflict,
    DeletedImage,
    DeleteImage,
    ExportImages,
    HistoryEntry,
    Image,
    ImageHistory,
    ImageInspect,
    ImagesPruned,
    ImageSummary,
    InspectImage,
    InvalidArgument,
    ListImages,
    NameImage,
    PruneImages,
    SavedImage,
    SaveImages,
    SetImage,
    TagImage,
    Ticket,
)
from shared.protocol.reference import familiar, normalize, repository_of

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()

KEYS = {"dangling", "label", "before", "since", "reference", "until"}
SHORT = 12


@jobs.handles(SetImage)
async def set_image(engine: Engine, job: SetImage) -> None:
    """Record an image. One that was loaded brings its name along; others have it from us, with an event of its own."""
    if job.order and engine.store.outcome(job.order) is not None:
        return  # it was asked twice, and this is the second image: nobody's, it is collected
    names = [familiar(tag) for tag in job.tags]
    if job.action == "build" and (flight := engine.router.flights.get(job.order)) is not None:
        engine.images.hold(flight.header.parent, job.image.id)
    if job.action == "push":
        await engine.graph.note(job.image.id, [tag for tag in job.tags if "@" in tag])
    else:
        await engine.graph.record(job.image, job.tags, job.order)
    if job.action in ("pull", "push"):
        engine.events.append("image", job.action, names[0], {"name": familiar(repository_of(job.tags[0]))})
        return
    if job.action == "load":
        engine.events.append("image", "load", job.image.id, {"name": names[0] if names else job.image.id})
        return
    if job.action == "build":
        return  # one step of many
    engine.events.append("image", job.action, job.image.id, {"name": job.image.id})
    for name in names:
        engine.events.append("image", "tag", job.image.id, {"name": name})


@jobs.handles(ListImages)
def list_images(engine: Engine, job: ListImages) -> list[ImageSummary]:
    filters.check_keys(job.filters, KEYS)
    before = [_created(engine.images.find(ref)) for ref in job.filters.get("before", [])]
    since = [_created(engine.images.find(ref)) for ref in job.filters.get("since", [])]
    until = [filters.parse_time(text) for text in job.filters.get("until", [])]
    dangling = _boolean(job.filters, "dangling", default=False)
    found = []
    parents = {image.parent for image in engine.images}
    for image in engine.images:
        tags, created = [familiar(tag) for tag in engine.images.tags(image.id)], _created(image)
        if not all(created < moment for moment in before + until) or not all(created > moment for moment in since):
            continue
        if not filters.match_labels(job.filters.get("label", []), image.config.labels or {}):
            continue
        if "dangling" in job.filters and dangling == (bool(tags) or image.id in parents):
            continue
        if not job.all and not tags and image.id in parents:
            continue  # a step on the way to another
        if patterns := job.filters.get("reference"):
            tags = [tag for tag in tags if any(_matches(tag, pattern) for pattern in patterns)]
            if not tags:
                continue
        found.append(_summary(engine, image, tags))
    if job.shared_size:
        count_shared(engine.images, found)
    return sorted(found, key=lambda summary: summary.created, reverse=True)


def _matches(tag: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(tag, pattern) or fnmatch.fnmatchcase(tag.rpartition(":")[0], pattern)


def _created(image: Image) -> float:
    try:
        return datetime.fromisoformat(image.created).timestamp()
    except ValueError:
        return 0.0


def _summary(engine: Engine, image: Image, tags: list[str]) -> ImageSummary:
    return ImageSummary(
        id=image.id,
        parent_id=image.parent,
        repo_tags=tags,
        repo_digests=[familiar(digest) for digest in engine.images.digests(image.id)],
        created=int(_created(image)),
        size=sum(image.layer_sizes),
        shared_size=-1,
        labels=image.config.labels,
        containers=-1,
    )


@jobs.handles(InspectImage)
def inspect(engine: Engine, job: InspectImage) -> ImageInspect:
    image = engine.images.find(job.image)
    return ImageInspect(
        id=image.id,
        repo_tags=[familiar(tag) for tag in engine.images.tags(image.id)],
        repo_digests=[familiar(digest) for digest in engine.images.digests(image.id)],
        parent=image.parent,
        comment=image.comment,
        created=image.created,
        docker_version="",
        author=image.author,
        config=image.config,
        architecture=image.architecture,
        variant=image.variant,
        os=image.os,
        size=sum(image.layer_sizes),
        graph_driver={"Name": engine.graph.status.get("Driver", ""), "Data": {}},
        root_fs={"Type": "layers", "Layers": image.diff_ids},
        metadata={"LastTagTime": "0001-01-01T00:00:00Z"},
    )


@jobs.handles(ImageHistory)
def history(engine: Engine, job: ImageHistory) -> list[HistoryEntry]:
    """Tell an image's history, newest first; sizes belong to the steps that made a layer."""
    image = engine.images.find(job.image)
    sizes = iter(image.layer_sizes)
    entries = []
    for step in image.history:
        created = _created_at(str(step.get("created", "")))
        entries.append(
            HistoryEntry(
                id="<missing>",
                created=created,
                created_by=str(step.get("created_by", "")),
                tags=None,
                size=0 if step.get("empty_layer") else next(sizes, 0),
                comment=str(step.get("comment", "")),
            )
        )
    entries.reverse()
    if entries:
        entries[0].id = image.id
        entries[0].tags = [familiar(tag) for tag in engine.images.tags(image.id)] or None
    return entries


def _created_at(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return 0


@jobs.handles(TagImage)
def tag(engine: Engine, job: TagImage) -> None:
    _tag(engine, job.image, f"{job.repo}:{job.tag}" if job.tag else job.repo)


@jobs.handles(NameImage)
def image_tag(engine: Engine, job: NameImage) -> None:
    _tag(engine, job.image, job.name)


def _tag(engine: Engine, ref: str, name: str) -> None:
    image = engine.images.find(ref)
    reference = normalize(name)
    with engine.store.transaction():
        engine.images.put(image, [reference])
        engine.events.append("image", "tag", image.id, {"name": familiar(reference)})
        engine.done(TagImage, None)
        engine.done(NameImage, None)


@jobs.handles(DeleteImage)
async def delete(engine: Engine, job: DeleteImage) -> list[DeletedImage]:
    """Untag; with the last tag, or by id, delete. Errors as the API's DELETE /images/{name}."""
    image = engine.images.find(job.image)
    reference = engine.images.tag_of(job.image)
    tags, references = engine.images.tags(image.id), engine.images.references(image.id)
    if reference is None and len(tags) > 1 and not job.force:
        raise Conflict(
            f"conflict: unable to delete {image.id[7:][:SHORT]} (must be forced) - image is referenced in multiple "
            "repositories"
        )
    doomed = references if reference is None else _with_digests(reference, references)
    last = len(doomed) == len(references)
    if last:
        _refuse_in_use(engine, image, job)
    removed = last and not _users(engine, image) and not _has_children(engine, image)
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
    engine.events.append("image", "untag", image.id, {"name": image.id})
    return DeletedImage(untagged=familiar(name))


def _delete(engine: Engine, image: Image) -> list[DeletedImage]:
    engine.images.delete(image)
    engine.events.append("image", "delete", image.id, {"name": image.id})
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
        if _has_children(engine, parent) or _users(engine, parent) or engine.images.is_held(parent.id):
            break
        gone += _delete(engine, parent)
        parent = engine.images.by_id(parent.parent)
    return gone


def _users(engine: Engine, image: Image) -> list[str]:
    """Return the ids of the containers made from an image, running ones first."""
    using = [c.record for c in engine.containers if c.record.image == image.id]
    running_first = [record.id for record in sorted(using, key=lambda record: not record.running)]
    return running_first + list(engine.quarantine.users_of_image(image.id))


def _refuse_in_use(engine: Engine, image: Image, job: DeleteImage) -> None:
    if engine.images.tag_of(job.image) is None and _has_children(engine, image):
        short = image.id[7:][:SHORT]
        raise Conflict(f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images")
    users = _users(engine, image)
    if not users:
        return
    container = engine.containers.by_id(users[0])
    running = container is not None and container.record.running
    if not running and job.force:
        return
    tag = engine.images.tag_of(job.image)
    what, how = familiar(tag) if tag else image.id[7:][:SHORT], "cannot" if running else "must"
    raise Conflict(
        f"conflict: unable to delete {what} ({how} be forced) - container {users[0][:SHORT]} is using its referenced "
        f"image {image.id[7:][:SHORT]}"
    )


@jobs.handles(PruneImages)
async def prune(engine: Engine, job: PruneImages) -> ImagesPruned:
    named_too = not _boolean(job.filters, "dangling", default=True)
    wanted = filters.prune_filter({key: values for key, values in job.filters.items() if key != "dangling"})
    gone: list[DeletedImage] = []
    for image in sorted(engine.images, key=_created, reverse=True):
        tags = engine.images.tags(image.id)
        kept = not named_too if tags else _has_children(engine, image) or engine.images.is_held(image.id)
        if kept or _users(engine, image) or not wanted(int(_created(image) * 1e9), image.config.labels or {}):
            continue
        gone += [_untag(engine, image, name) for name in engine.images.references(image.id)]
        gone += _delete(engine, image)
    reclaimed = await engine.graph.collect() if gone else 0
    engine.events.append("image", "prune", "", {"reclaimed": str(reclaimed)})
    return ImagesPruned(images_deleted=gone or None, space_reclaimed=reclaimed)


def _boolean(given: dict[str, list[str]], key: str, *, default: bool) -> bool:
    values = {value.lower() for value in given.get(key, [str(default)])}
    for truth, spellings in ((True, {"1", "t", "true"}), (False, {"0", "f", "false"})):
        if values and values <= spellings:
            return truth
    raise InvalidArgument(f"invalid filter '{key}={' '.join(given[key])}'")


@jobs.handles(SaveImages)
async def save(engine: Engine, job: SaveImages) -> Ticket:
    """Export images; those named by tag carry that tag only, those named by id none."""
    chosen: dict[str, SavedImage] = {}
    for ref in job.images:
        image = engine.images.find(ref)
        reference = engine.images.tag_of(ref)
        entry = chosen.setdefault(image.id, SavedImage(image=image, tags=[]))
        if reference is not None and "@" not in reference and reference not in entry.tags:
            entry.tags.append(reference)
    return await engine.call(ExportImages(images=list(chosen.values())))
