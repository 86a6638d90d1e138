"""Build, with the classic builder."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from services.apiserver import params
from services.apiserver.transfer import progress_stream
from shared.protocol import AuthConfig, BuildImage, InvalidArgument

routes = Blueprint("build", __name__)

JSON_FIELDS = {"buildargs": dict[str, str | None], "labels": dict[str, str], "cachefrom": list[str]}
NUMBERS = ("shmsize", "memory", "memswap", "cpushares", "cpuperiod", "cpuquota")
TEXTS = ("remote", "networkmode", "target", "platform", "cpusetcpus")


@routes.post("/build")
def build() -> Response:
    fields: dict[str, Any] = {name: params.text(name) for name in TEXTS}
    fields |= {name: params.integer(name) for name in NUMBERS}
    fields |= {name: _json(name, kind) for name, kind in JSON_FIELDS.items() if params.text(name)}
    job = BuildImage(
        dockerfile=params.text("dockerfile") or "Dockerfile",
        tags=request.args.getlist("t"),
        quiet=params.boolean("q"),
        nocache=params.boolean("nocache"),
        pull=params.boolean("pull"),
        remove=params.boolean("rm", default=True),
        force_remove=params.boolean("forcerm"),
        extrahosts=[host for text in request.args.getlist("extrahosts") for host in text.split(",") if host],
        registries=_registries(),
        **fields,
    )
    return progress_stream(job, at_once=False)


def _json(name: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(params.text(name), type=kind)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"invalid value for {name}: {error}") from None


def _registries() -> dict[str, AuthConfig]:
    """The X-Registry-Config header: base64url of JSON, registry host → credentials."""
    text = request.headers.get("X-Registry-Config", "")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text) or b"{}", type=dict[str, AuthConfig])
    except (ValueError, msgspec.DecodeError):
        return {}
