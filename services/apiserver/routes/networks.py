"""Networks: list and inspect."""

from __future__ import annotations

from flask import Blueprint, Response

from services.apiserver import params
from services.apiserver.jobs import read, show
from shared.protocol import InspectNetwork, ListNetworks

routes = Blueprint("networks", __name__, url_prefix="/networks")


@routes.get("")
def list_networks() -> Response:
    return show(read(ListNetworks(filters=params.filters())))


@routes.get("/<path:ref>")
def inspect(ref: str) -> Response:
    return show(read(InspectNetwork(network=ref)))
