"""System: ping, version, info, disk usage, auth; and the plugins, of which there are none."""

from __future__ import annotations

from flask import Blueprint, Response, request

from services.apiserver import older, params
from services.apiserver.hangups import while_connected
from services.apiserver.jobs import MEASURE_TIMEOUT, call, read, show
from services.apiserver.versions import api_version
from shared.protocol import AuthConfig, Authenticate, InvalidArgument, MeasureDisk, SystemInfo, SystemVersion

routes = Blueprint("system", __name__)

PING_HEADERS = {
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Content-Type": "text/plain; charset=utf-8",
}


@routes.route("/_ping", methods=["GET", "HEAD"])
def ping() -> Response:
    return Response("" if request.method == "HEAD" else "OK", headers=PING_HEADERS)


@routes.get("/version")
def version() -> Response:
    return show(read(SystemVersion()))


@routes.get("/info")
def info() -> Response:
    return show(older.show_info(read(SystemInfo())))


@routes.get("/system/df")
def disk_usage() -> Response:
    """Before API 1.42 all types were meant."""
    types = request.args.getlist("type") if api_version() >= (1, 42) else []
    with while_connected():
        return show(older.show_disk_usage(call(MeasureDisk(types=types), timeout=MEASURE_TIMEOUT)))


@routes.post("/auth")
def auth() -> Response:
    return show(call(Authenticate(auth=params.decode(params.json_body(), AuthConfig))))


@routes.get("/plugins")
def plugins() -> Response:
    for key, values in params.filters().items():
        if key not in ("capability", "enabled"):
            raise InvalidArgument(f"invalid filter '{key}'")
        if key == "enabled" and set(values) not in ({"true"}, {"1"}, {"true", "1"}, {"false"}, {"0"}, {"false", "0"}):
            raise InvalidArgument(f"invalid filter 'enabled=[{' '.join(values)}]'")
    return show([])
