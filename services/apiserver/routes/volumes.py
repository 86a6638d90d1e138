"""Volumes: create, list, inspect, remove, prune."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from services.apiserver import params
from services.apiserver.jobs import call, read, show
from services.apiserver.versions import api_version
from shared.protocol import CreateVolume, DeleteVolume, InspectVolume, InvalidArgument, ListVolumes, PruneVolumes
from shared.protocol.job import Record

routes = Blueprint("volumes", __name__, url_prefix="/volumes")

ANONYMOUS_ONLY = (1, 42)  # the version from which a prune leaves named volumes alone
REMOVAL_TIME = 600.0  # seconds


class CreateOptions(Record):
    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


@routes.get("")
def list_volumes() -> Response:
    return show(read(ListVolumes(filters=params.filters())))


@routes.post("/create")
def create() -> Response:
    body = params.json_body()
    asked = params.decode(body, CreateOptions)
    job = CreateVolume(
        name=asked.name,
        driver=asked.driver,
        driver_opts=asked.driver_opts,
        labels=asked.labels,
        cluster_volume_spec=asked.cluster_volume_spec,
    )
    return show(call(job), 201)


@routes.post("/prune")
def prune() -> Response:
    filters = params.filters()
    if api_version() < ANONYMOUS_ONLY:
        if "all" in filters:
            raise InvalidArgument("invalid filter 'all'")
        filters["all"] = ["true"]
    return show(call(PruneVolumes(filters=filters), timeout=REMOVAL_TIME))


@routes.get("/<path:name>")
def inspect(name: str) -> Response:
    return show(read(InspectVolume(volume=name)))


@routes.delete("/<path:name>")
def remove(name: str) -> tuple[str, int]:
    call(DeleteVolume(volume=name, force=params.boolean("force")), timeout=REMOVAL_TIME)
    return "", 204
