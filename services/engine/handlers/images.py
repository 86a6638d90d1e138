"""Images: list, inspect, history, tag, export; and what the graphdriver tells of what it has loaded."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from services.engine import filters
from services.engine.disk import count_shared
from services.engine.platform import check_platform
from services.engine.views import rfc3339
from shared.bus.handlers import Handlers
from shared.dockerfile.ignore import Glob, compile_glob
from shared.protocol import (
    ExportImages,
    HistoryEntry,
    Image,
    ImageHistory,
    ImageInspect,
    ImageSummary,
    InspectImage,
    InvalidArgument,
    ListImages,
    NameImage,
    SavedImage,
    SaveImages,
    SetImage,
    TagImage,
    Ticket,
)
from shared.protocol.reference import familiar, normalize, repository_of, with_tag

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
        image = _tagged_now(job.image) if names and job.action in ("create", "import") else job.image
        await engine.graph.record(image, job.tags, job.order)
    if job.action in ("pull", "push"):
        tell(engine, job.action, job.image, familiar(repository_of(job.tags[0])), actor=names[0])
        return
    if job.action == "load":
        tell(engine, "load", job.image, names[0] if names else job.image.id)
        return
    if job.action == "build":
        return  # one step of many
    tell(engine, job.action, job.image, job.image.id)
    for name in names:
        tell(engine, "tag", job.image, name)


def tell(engine: Engine, action: str, image: Image, name: str, *, actor: str = "") -> None:
    """Tell of an image, with its labels, by which events are found. ``actor``: its id if nothing else is said."""
    engine.events.append("image", action, actor or image.id, {**(image.config.labels or {}), "name": name})


@jobs.handles(ListImages)
def list_images(engine: Engine, job: ListImages) -> list[ImageSummary]:
    filters.check_keys(job.filters, KEYS)
    before = [created(engine.images.find(ref)) for ref in job.filters.get("before", [])]
    since = [created(engine.images.find(ref)) for ref in job.filters.get("since", [])]
    until = [filters.parse_time(text) for text in job.filters.get("until", [])]
    dangling = filters.boolean(job.filters, "dangling", default=False)
    patterns = [compile_glob(pattern) for pattern in job.filters.get("reference", [])]
    found = []
    parents = {image.parent for image in engine.images}
    for image in engine.images:
        tags, at = [familiar(tag) for tag in engine.images.tags(image.id)], created(image)
        if not all(at < moment for moment in before + until) or not all(at > moment for moment in since):
            continue
        if not filters.match_labels(job.filters.get("label", []), image.config.labels or {}):
            continue
        if "dangling" in job.filters and dangling == (bool(tags) or image.id in parents):
            continue
        if not job.all and not tags and image.id in parents:
            continue  # a step on the way to another
        digests = [familiar(digest) for digest in engine.images.digests(image.id)]
        if patterns:
            tags, digests = ([one for one in names if _matches(one, patterns)] for names in (tags, digests))
            if not tags and not digests:
                continue
        found.append(_summary(image, tags, digests))
    if job.shared_size:
        count_shared(engine.images, found)
    return sorted(found, key=lambda summary: summary.created, reverse=True)


def _matches(name: str, patterns: list[Glob]) -> bool:
    """Say whether a pattern matches a tag or digest, or its repository, as Go's path.Match does."""
    repository = name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
    return any(pattern.fullmatch(name) or pattern.fullmatch(repository) for pattern in patterns)


def created(image: Image) -> float:
    try:
        return datetime.fromisoformat(image.created).timestamp()
    except ValueError:
        return 0.0


def _summary(image: Image, tags: list[str], digests: list[str]) -> ImageSummary:
    return ImageSummary(
        id=image.id,
        parent_id=image.parent,
        repo_tags=tags,
        repo_digests=digests,
        created=int(created(image)),
        size=sum(image.layer_sizes),
        shared_size=-1,
        labels=image.config.labels,
        containers=-1,
    )


@jobs.handles(InspectImage)
def inspect(engine: Engine, job: InspectImage) -> ImageInspect:
    image = engine.images.find(job.image)
    check_platform(job.image, image, job.platform)
    return ImageInspect(
        id=image.id,
        repo_tags=[familiar(tag) for tag in engine.images.tags(image.id)],
        repo_digests=[familiar(digest) for digest in engine.images.digests(image.id)],
        parent=image.parent,
        comment=image.comment or (str(image.history[-1].get("comment", "")) if image.history else ""),
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
        metadata={"LastTagTime": rfc3339(image.last_tagged)},
    )


@jobs.handles(ImageHistory)
def history(engine: Engine, job: ImageHistory) -> list[HistoryEntry]:
    """Tell an image's history, newest first; sizes belong to the steps that made a layer."""
    image = engine.images.find(job.image)
    check_platform(job.image, image, job.platform)
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
    reference = with_tag(job.repo, job.tag)
    if "@" in reference:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    _tag(engine, job.image, reference)


@jobs.handles(NameImage)
def image_tag(engine: Engine, job: NameImage) -> None:
    _tag(engine, job.image, job.name)


def _tag(engine: Engine, ref: str, name: str) -> None:
    image = engine.images.find(ref)
    reference = normalize(name)
    if familiar(repository_of(reference)) == "sha256":
        raise InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
    with engine.store.transaction():
        engine.images.put(_tagged_now(image), [reference])
        tell(engine, "tag", image, familiar(reference))
        engine.done(TagImage, None)
        engine.done(NameImage, None)


def _tagged_now(image: Image) -> Image:
    return msgspec.structs.replace(image, last_tagged=time.time_ns())


@jobs.handles(SaveImages)
async def save(engine: Engine, job: SaveImages) -> Ticket:
    """Export images; those named by tag carry that tag only, those named by id none."""
    chosen: dict[str, SavedImage] = {}
    for ref in job.images:
        image = engine.images.find(ref)
        check_platform(ref, image, job.platform)
        reference = engine.images.tag_of(ref)
        entry = chosen.setdefault(image.id, SavedImage(image=image, tags=[]))
        if reference is not None and "@" not in reference and reference not in entry.tags:
            entry.tags.append(reference)
    ticket = await engine.call(ExportImages(images=list(chosen.values())))
    for saved in chosen.values():
        tell(engine, "save", saved.image, saved.image.id)
    return ticket
