"""What governs a container that runs: pause, unpause."""

from __future__ import annotations

from flask import Blueprint

from services.apiserver.jobs import call
from shared.protocol import PauseContainer, UnpauseContainer

routes = Blueprint("control", __name__, url_prefix="/containers")


@routes.post("/<ref>/pause")
def pause(ref: str) -> tuple[str, int]:
    call(PauseContainer(container=ref))
    return "", 204


@routes.post("/<ref>/unpause")
def unpause(ref: str) -> tuple[str, int]:
    call(UnpauseContainer(container=ref))
    return "", 204
