"""Contents of containers: changes, copies in and out, export, commit; and import."""

from __future__ import annotations

import base64

import msgspec
from flask import Blueprint, Response, request

from services.apiserver import params
from services.apiserver.jobs import call, read, show
from services.apiserver.transfer import archive, progress_stream, upload
from shared.protocol import (
    CommitContainer,
    ContainerChanges,
    ContainerConfig,
    CopyFromContainer,
    CopyToContainer,
    ExportContainer,
    ImportImage,
    InvalidArgument,
    PathStat,
    StatContainerPath,
)

routes = Blueprint("archive", __name__)

COMMIT_TIMEOUT = 3600.0  # seconds
STAT_HEADER = "X-Docker-Container-Path-Stat"
TAR = "application/x-tar"


@routes.get("/containers/<path:ref>/changes")
def changes(ref: str) -> Response:
    return show(read(ContainerChanges(container=ref), timeout=COMMIT_TIMEOUT) or None)


@routes.route("/containers/<path:ref>/archive", methods=["GET", "HEAD"])
def copy_out(ref: str) -> Response:
    """GET, and HEAD, which asks for the header alone."""
    path = params.text("path")
    if request.method == "HEAD":
        return Response(headers={STAT_HEADER: _header(read(StatContainerPath(container=ref, path=path)))})
    copied, chunks = archive(lambda: call(CopyFromContainer(container=ref, path=path)), lambda made: made.ticket)
    return Response(chunks, headers={"Content-Type": TAR, STAT_HEADER: _header(copied.stat)})


def _header(stat: PathStat) -> str:
    shown = {
        "name": stat.name,
        "size": stat.size,
        "mode": stat.mode,
        "mtime": stat.mtime,
        "linkTarget": stat.link_target,
    }
    return base64.b64encode(msgspec.json.encode(shown)).decode()


@routes.put("/containers/<path:ref>/archive")
def copy_in(ref: str) -> tuple[str, int]:
    upload(
        CopyToContainer(
            container=ref,
            path=params.text("path"),
            no_overwrite_dir_non_dir=params.boolean("noOverwriteDirNonDir"),
            copy_uid_gid=params.boolean("copyUIDGID"),
        )
    )
    return "", 200


@routes.get("/containers/<path:ref>/export")
def export(ref: str) -> Response:
    _, chunks = archive(lambda: call(ExportContainer(container=ref)), lambda ticket: ticket)
    return Response(chunks, headers={"Content-Type": "application/octet-stream"})


@routes.post("/commit")
def commit() -> Response:
    body = params.json_body()
    if not (container := params.text("container")):
        raise InvalidArgument("invalid container name or ID: value is empty")
    job = CommitContainer(
        container=container,
        repo=params.text("repo"),
        tag=params.text("tag"),
        author=params.text("author"),
        comment=params.text("comment"),
        pause=params.boolean("pause", default=True),
        changes=request.args.getlist("changes"),
        config=params.decode(body, ContainerConfig) if body else None,
    )
    return show({"Id": call(job, timeout=COMMIT_TIMEOUT)}, 201)


def import_image() -> Response:
    """POST /images/create?fromSrc=: the last line is the image's id."""
    job = ImportImage(
        src=params.text("fromSrc"),
        repo=params.text("repo"),
        tag=params.text("tag"),
        message=params.text("message"),
        changes=request.args.getlist("changes"),
        platform=params.text("platform"),
    )
    return progress_stream(job, last="status")
