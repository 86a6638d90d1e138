"""What the API has and dockyard has not: refused by its name, not as a path that nobody knows.

Swarm's and plugins' endpoints answer as those of an engine that is in no swarm and has no plugins. Registered last:
what another blueprint serves is never refused. docs/api.md is made of these tables.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response

from services.apiserver.errors import error_response
from shared.protocol import NotFound, NotImplementedByUs

routes = Blueprint("refused", __name__)

NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
NOT_IN_SWARM = "This node is not part of a swarm"
NO_CLUSTER_VOLUMES = "volume update only valid for cluster volumes, but swarm is unavailable"

MISSING = {
    "BuildKit": ("POST /session", "POST /grpc", "POST /build/cancel"),
    "checkpoints": (
        "GET /containers/<path:ref>/checkpoints", "POST /containers/<path:ref>/checkpoints",
        "DELETE /containers/<path:ref>/checkpoints/<checkpoint>",
    ),
    "plugins": ("GET /plugins/privileges", "POST /plugins/pull", "POST /plugins/create"),
    "swarm mode": ("POST /swarm/init", "POST /swarm/join"),
}  # fmt: skip
UNAVAILABLE = {
    NO_SWARM: (
        "GET /swarm", "POST /swarm/update", "POST /swarm/unlock", "GET /swarm/unlockkey",
        "GET /nodes", "GET /nodes/<ref>", "DELETE /nodes/<ref>", "POST /nodes/<ref>/update",
        "GET /services", "POST /services/create", "GET /services/<ref>", "DELETE /services/<ref>",
        "POST /services/<ref>/update", "GET /services/<ref>/logs",
        "GET /tasks", "GET /tasks/<ref>", "GET /tasks/<ref>/logs",
        "GET /secrets", "POST /secrets/create", "GET /secrets/<ref>", "DELETE /secrets/<ref>",
        "POST /secrets/<ref>/update",
        "GET /configs", "POST /configs/create", "GET /configs/<ref>", "DELETE /configs/<ref>",
        "POST /configs/<ref>/update",
    ),
    NOT_IN_SWARM: ("POST /swarm/leave",),
    NO_CLUSTER_VOLUMES: ("PUT /volumes/<ref>",),
}  # fmt: skip
OF_A_PLUGIN = (
    "GET /plugins/<path:ref>/json", "DELETE /plugins/<path:ref>", "POST /plugins/<path:ref>/enable",
    "POST /plugins/<path:ref>/disable", "POST /plugins/<path:ref>/upgrade", "POST /plugins/<path:ref>/push",
    "POST /plugins/<path:ref>/set",
)  # fmt: skip


def _not_implemented(what: str) -> Callable[..., Response]:
    def refuse(**_parts: str) -> Response:
        raise NotImplementedByUs(f"{what}: not implemented")

    return refuse


def _unavailable(why: str) -> Callable[..., Response]:
    def refuse(**_parts: str) -> Response:
        return error_response(503, why)

    return refuse


def _no_plugin(ref: str) -> Response:
    raise NotFound(f'plugin "{ref}" not found')


def _add(route: str, view: Callable[..., Response]) -> None:
    method, path = route.split()
    routes.add_url_rule(path, endpoint=route.replace(".", "-"), view_func=view, methods=[method])


for _what, _routes in MISSING.items():
    for _route in _routes:
        _add(_route, _not_implemented(_what))
for _why, _routes in UNAVAILABLE.items():
    for _route in _routes:
        _add(_route, _unavailable(_why))
for _route in OF_A_PLUGIN:
    _add(_route, _no_plugin)
