"""Build, with the classic builder; and the caches that builds mount."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from services.apiserver import params
from services.apiserver.jobs import MEASURE_TIMEOUT, call, show
from services.apiserver.transfer import progress_stream
from services.apiserver.versions import api_version
from shared.protocol import AuthConfig, BuildImage, InvalidArgument, NotImplementedByUs, PruneBuildCache, Ulimit

routes = Blueprint("build", __name__, url_prefix="/build")

JSON_FIELDS = {
    "buildargs": dict[str, str | None], "labels": dict[str, str], "cachefrom": list[str],
    "ulimits": list[Ulimit],
}  # fmt: skip
NUMBERS = ("shmsize", "memory", "memswap", "cpushares", "cpuperiod", "cpuquota")
TEXTS = ("remote", "networkmode", "target", "platform", "cpusetcpus", "cpusetmems", "cgroupparent", "isolation")
BUILDKIT = "2"  # of the parameter ``version``
NO_BUILDKIT = "BuildKit is not supported by this daemon: build with DOCKER_BUILDKIT=0"


@routes.post("")
def build() -> Response:
    _refuse_buildkit()
    fields: dict[str, Any] = {name: params.text(name) for name in TEXTS}
    fields |= {name: params.integer(name) for name in NUMBERS}
    found = {name: _json(name, kind) for name, kind in JSON_FIELDS.items()}
    fields |= {name: value for name, value in found.items() if value is not None}
    job = BuildImage(
        dockerfile=params.text("dockerfile") or "Dockerfile",
        tags=[tag for tag in request.args.getlist("t") if tag],
        quiet=params.boolean("q"),
        nocache=params.boolean("nocache"),
        pull=params.boolean("pull"),
        remove=params.boolean("rm", default=True),
        force_remove=params.boolean("forcerm"),
        squash=params.boolean("squash"),
        extrahosts=[host for text in request.args.getlist("extrahosts") for host in text.split(",") if host],
        securityopt=[text for text in request.args.getlist("securityopt") if text not in ("", "null")],
        registries=_header("X-Registry-Config", dict[str, AuthConfig]),
        secrets=_header("X-Dockyard-Build-Secrets", dict[str, str]),
        **fields,
    )
    return progress_stream(job, without="aux" if api_version() < (1, 30) else "", timeout=None)


def _refuse_buildkit() -> None:
    """Errors: InvalidArgument, NotImplementedByUs."""
    content_type = request.headers.get("Content-Type", "")
    if content_type and content_type.partition(";")[0].strip() not in ("application/x-tar", "application/tar"):
        raise InvalidArgument(f"Content-Type {content_type!r} is no tar")
    if params.text("version") == BUILDKIT or params.text("remote") == "client-session" or params.text("outputs"):
        raise NotImplementedByUs(NO_BUILDKIT)


def _json(name: str, kind: Any) -> Any:
    """Return what a parameter holds; None if it is not there, or null, which is Go's empty list."""
    try:
        return msgspec.convert(params.drop_nulls(msgspec.json.decode(params.text(name) or "null")), kind | None)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidArgument(f"invalid value for {name}: {error}") from None


def _header(name: str, kind: Any) -> Any:
    """A header of base64url of a JSON object; what cannot be read is empty."""
    text = request.headers.get(name, "")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) or b"{}", type=kind)
    except (ValueError, msgspec.DecodeError):
        return {}


@routes.post("/prune")
def prune() -> Response:
    limits = ["keep-storage", "reserved-space"]
    if api_version() >= (1, 48):
        if params.integer("min-free-space"):
            raise NotImplementedByUs("min-free-space: not implemented")
        limits.append("max-used-space")
    keep = max(params.integer(name) for name in limits)  # what is beyond the larger goes, and no more
    job = PruneBuildCache(filters=params.filters(), keep_storage=keep)
    return show(call(job, timeout=MEASURE_TIMEOUT))
