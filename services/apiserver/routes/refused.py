"""What the API has and dockyard has not: refused by its name, not as a path that nobody knows.

Registered last: what another blueprint serves is never refused.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response

from services.apiserver.errors import error_response
from services.apiserver.routes.system import NO_SWARM
from shared.protocol import NotFound, NotImplementedByUs

routes = Blueprint("refused", __name__)

MISSING = {
    "BuildKit": ("POST /session", "POST /grpc", "POST /build/cancel"),
    "plugins": (
        "GET /plugins/privileges", "POST /plugins/pull", "POST /plugins/create",
        "DELETE /plugins/<path:ref>", "POST /plugins/<path:ref>/enable", "POST /plugins/<path:ref>/disable",
        "POST /plugins/<path:ref>/upgrade", "POST /plugins/<path:ref>/push", "POST /plugins/<path:ref>/set",
    ),
    "swarm mode": ("POST /swarm/init", "POST /swarm/join"),
}  # fmt: skip
SWARM = (
    "POST /swarm/leave", "POST /swarm/update", "POST /swarm/unlock", "GET /swarm/unlockkey",
    "GET /nodes/<ref>", "DELETE /nodes/<ref>", "POST /nodes/<ref>/update",
    "POST /services/create", "GET /services/<ref>", "DELETE /services/<ref>", "POST /services/<ref>/update",
    "GET /services/<ref>/logs", "GET /tasks/<ref>", "GET /tasks/<ref>/logs",
    "POST /secrets/create", "GET /secrets/<ref>", "DELETE /secrets/<ref>", "POST /secrets/<ref>/update",
    "POST /configs/create", "GET /configs/<ref>", "DELETE /configs/<ref>", "POST /configs/<ref>/update",
)  # fmt: skip


def _refuse(what: str) -> Callable[..., Response]:
    def refuse(ref: str = "") -> Response:
        raise NotImplementedByUs(f"{what}: not implemented")

    return refuse


def _no_swarm(ref: str = "") -> Response:
    return error_response(503, NO_SWARM)


@routes.get("/plugins/<path:ref>/json")
def plugin(ref: str) -> Response:
    """None is there: `docker inspect` asks for all kinds of things of a name, and wants to hear that of each."""
    raise NotFound(f'plugin "{ref}" not found')


def _add(route: str, view: Callable[..., Response]) -> None:
    method, path = route.split()
    routes.add_url_rule(path, endpoint=route.replace(".", "-"), view_func=view, methods=[method])


for _what, _paths in MISSING.items():
    for _route in _paths:
        _add(_route, _refuse(_what))
for _route in SWARM:
    _add(_route, _no_swarm)
