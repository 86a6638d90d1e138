"""Distribution: what registries have."""

from __future__ import annotations

from flask import Blueprint, Response

from services.apiserver import params
from services.apiserver.jobs import call, show
from shared.protocol import InspectDistribution

routes = Blueprint("distribution", __name__, url_prefix="/distribution")


@routes.get("/<path:ref>/json")
def inspect(ref: str) -> Response:
    return show(call(InspectDistribution(image=ref, auth=params.registry_auth())))
