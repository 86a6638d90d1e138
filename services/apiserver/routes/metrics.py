"""Metrics, on a listener of their own; elsewhere there is no such path."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, Response, current_app

from services.apiserver.jobs import READ_PATIENCE, bus
from services.apiserver.metrics import CONTENT_TYPE, Metrics
from shared.protocol import EngineMetrics, ReadMetrics, Unavailable

routes = Blueprint("metrics", __name__)

TIMEOUT = 5.0  # seconds


@routes.route("/metrics", methods=["GET", "HEAD"])
def metrics() -> Response:
    """What the engine does not tell, because it is away, is left out."""
    counted: Metrics = current_app.extensions["dockyard.metrics"]
    engine: EngineMetrics | None = None
    with suppress(Unavailable):
        engine = bus().call(ReadMetrics(), timeout=TIMEOUT, patience=READ_PATIENCE)
    return Response(counted.told(engine), headers={"Content-Type": CONTENT_TYPE})
