"""Images: list, inspect, history, tag, delete, load, save. Names may contain slashes."""

from __future__ import annotations

from flask import Blueprint, Response, request

from services.apiserver import older, params
from services.apiserver.jobs import call, read, show
from services.apiserver.omitting import without_empty
from services.apiserver.routes.archive import import_image
from services.apiserver.transfer import archive, progress_stream
from services.apiserver.versions import api_version
from shared.protocol import (
    DeleteImage,
    ImageHistory,
    InspectImage,
    InvalidArgument,
    ListImages,
    LoadImages,
    PruneImages,
    PullImage,
    PushImage,
    SaveImages,
    SearchImages,
    TagImage,
)

routes = Blueprint("images", __name__, url_prefix="/images")

SEARCH_TIMEOUT = 60.0  # seconds


@routes.get("/json")
def list_images() -> Response:
    shared_size = params.boolean("shared-size") and api_version() >= (1, 42)
    flags = {"all": params.boolean("all"), "shared_size": shared_size}
    filters = older.ask_for_images(params.filters(), params.text("filter"))
    return show(older.show_images(read(ListImages(filters=filters, **flags))))


@routes.get("/<path:ref>/json")
def inspect(ref: str) -> Response:
    platform = params.platform((1, 49))
    if platform and params.boolean("manifests"):
        raise InvalidArgument("conflicting options: manifests and platform options cannot both be set")
    return show(without_empty(older.show_image(read(InspectImage(image=ref, platform=platform)))))


@routes.get("/<path:ref>/history")
def history(ref: str) -> Response:
    return show(read(ImageHistory(image=ref, platform=params.platform((1, 48)))))


@routes.post("/<path:ref>/tag")
def tag(ref: str) -> tuple[str, int]:
    call(TagImage(image=ref, repo=params.text("repo"), tag=params.text("tag")))
    return "", 201


@routes.delete("/<path:ref>")
def delete(ref: str) -> Response:
    if not ref.strip():
        raise InvalidArgument("image name cannot be blank")
    flags = {name: params.boolean(name) for name in ("force", "noprune")}
    return show(call(DeleteImage(image=ref, platforms=params.platforms("platforms", (1, 50)), **flags)))


@routes.post("/create")
def pull() -> Response:
    if params.text("fromSrc"):
        return import_image()
    job = PullImage(
        image=params.text("fromImage"),
        tag=params.text("tag"),
        platform=params.text("platform") if api_version() >= (1, 32) else "",
        auth=params.registry_auth(),
    )
    return progress_stream(job, timeout=None)


@routes.post("/<path:ref>/push")
def push(ref: str) -> Response:
    job = PushImage(
        image=ref,
        tag=params.text("tag"),
        platform=params.platform((1, 46)),
        auth=params.registry_auth(),
    )
    return progress_stream(job, timeout=None)


@routes.get("/search")
def search() -> Response:
    job = SearchImages(
        term=params.text("term"),
        limit=params.integer("limit"),
        filters=params.filters(),
        auth=params.registry_auth(),
    )
    return show(call(job, timeout=SEARCH_TIMEOUT))


@routes.post("/prune")
def prune() -> Response:
    return show(call(PruneImages(filters=params.filters())))


@routes.post("/load")
def load() -> Response:
    job = LoadImages(quiet=params.boolean("quiet", default=True), platform=params.platform((1, 48)))
    return progress_stream(job, in_band=True)


@routes.get("/get")
def save_several() -> Response:
    return _archive(request.args.getlist("names"))


@routes.get("/<path:ref>/get")
def save(ref: str) -> Response:
    return _archive([ref])


def _archive(refs: list[str]) -> Response:
    job = SaveImages(images=refs, platform=params.platform((1, 48)))
    _, chunks = archive(lambda: call(job), lambda ticket: ticket)
    return Response(chunks, headers={"Content-Type": "application/x-tar"})
