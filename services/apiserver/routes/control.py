"""What governs a container that runs: pause, unpause, update."""

from __future__ import annotations

from flask import Blueprint, Response

from services.apiserver import params
from services.apiserver.jobs import call, show
from services.apiserver.versions import api_version
from shared.protocol import HostConfig, PauseContainer, RestartPolicy, UnpauseContainer, UpdateContainer

routes = Blueprint("control", __name__, url_prefix="/containers")


@routes.post("/<ref>/pause")
def pause(ref: str) -> tuple[str, int]:
    call(PauseContainer(container=ref))
    return "", 204


@routes.post("/<ref>/unpause")
def unpause(ref: str) -> tuple[str, int]:
    call(UnpauseContainer(container=ref))
    return "", 204


@routes.post("/<ref>/update")
def update(ref: str) -> Response:
    """The body is flat: limits as in HostConfig, and a RestartPolicy whose empty name is none."""
    body = params.json_body()
    policy = params.decode(body.pop("RestartPolicy", None) or {"Name": ""}, RestartPolicy)
    if api_version() < (1, 40):
        body.pop("PidsLimit", None)
    job = UpdateContainer(
        container=ref,
        host_config=params.decode(body, HostConfig),
        restart_policy=policy if policy.name else None,
    )
    return show(call(job))
