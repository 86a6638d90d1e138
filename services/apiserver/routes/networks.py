"""Networks: create, list, inspect, connect, disconnect, remove, prune."""

from __future__ import annotations

from flask import Blueprint, Response

from services.apiserver import params
from services.apiserver.jobs import call, read, show
from services.apiserver.versions import api_version
from shared.protocol import (
    IPAM,
    ConnectNetwork,
    CreateNetwork,
    DeleteNetwork,
    DisconnectNetwork,
    EndpointSettings,
    InspectNetwork,
    InvalidArgument,
    ListNetworks,
    NotFound,
    PruneNetworks,
)
from shared.protocol.job import Record

routes = Blueprint("networks", __name__, url_prefix="/networks")


class ConfigReference(Record):
    network: str = ""


class CreateOptions(Record):
    """CheckDuplicate of older clients has no effect: names are unique."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    ipam: IPAM | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None


class ConnectOptions(Record):
    container: str = ""
    endpoint_config: EndpointSettings | None = None
    force: bool = False


@routes.get("")
@routes.get("/")
def list_networks() -> Response:
    """Before API 1.28 their containers were told of."""
    return show(read(ListNetworks(filters=params.filters(), detailed=api_version() < (1, 28))))


@routes.post("/create")
def create() -> Response:
    asked = params.decode(params.json_body(), CreateOptions)
    job = CreateNetwork(
        name=asked.name,
        driver=asked.driver,
        scope=asked.scope,
        internal=asked.internal,
        attachable=asked.attachable,
        ingress=asked.ingress,
        config_only=asked.config_only,
        config_from=asked.config_from.network if asked.config_from else "",
        ipam=asked.ipam,
        options=asked.options,
        labels=asked.labels,
        enable_ipv4=asked.enable_ipv4 if api_version() >= (1, 48) else None,
        enable_ipv6=asked.enable_ipv6,
    )
    return show(call(job), 201)


@routes.post("/prune")
def prune() -> Response:
    return show(call(PruneNetworks(filters=params.filters())))


def _asked() -> ConnectOptions:
    asked = params.decode(params.json_body(), ConnectOptions)
    if not asked.container:
        raise InvalidArgument("invalid container name or ID: value is empty")
    return asked


@routes.post("/<path:ref>/connect")
def connect(ref: str) -> tuple[str, int]:
    asked = _asked()
    call(ConnectNetwork(network=ref, container=asked.container, endpoint_config=asked.endpoint_config))
    return "", 200


@routes.post("/<path:ref>/disconnect")
def disconnect(ref: str) -> tuple[str, int]:
    asked = _asked()
    call(DisconnectNetwork(network=ref, container=asked.container, force=asked.force))
    return "", 200


@routes.delete("/<path:ref>")
def remove(ref: str) -> tuple[str, int]:
    call(DeleteNetwork(network=ref))
    return "", 204


@routes.get("/<path:ref>")
def inspect(ref: str) -> Response:
    scope = params.text("scope")
    shown = read(InspectNetwork(network=ref))
    if scope and scope != shown.scope:
        raise NotFound(f"network {ref} not found")
    return show(shown)
