"""The application: routes around a bus, behind the activation latch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from services.apiserver.errors import register_errors
from services.apiserver.policy import enforce
from services.apiserver.routes import (
    archive,
    attach,
    build,
    containers,
    control,
    distribution,
    events,
    exec,
    images,
    metrics,
    networks,
    refused,
    system,
    volumes,
)
from services.apiserver.versions import Versions
from shared.bus.bus import Bus
from shared.protocol import Unavailable

__all__ = ["create_app"]

LATCH_TIMEOUT = 60.0  # seconds that a request waits for the boot to be complete


class Route(Rule):
    """A path and its methods as dockerd's router has them: no HEAD beside a GET, nothing behind a slash at the end."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        wanted = set(options.get("methods") or ())
        super().__init__(*parts, **options)
        if self.methods is not None and "HEAD" not in wanted:
            self.methods.discard("HEAD")

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        """Make what builds a URL of this rule when one is wanted. None ever is: it took 45 ms of each start."""
        compile_builder = super()._compile_builder

        def build(rule: Route, /, **values: Any) -> tuple[str, str]:
            built: tuple[str, str] = compile_builder(append_unknown).__get__(rule, None)(**values)
            return built

        return build


def create_app(bus: Bus, reader: Bus, latch: threading.Event, origins: Collection[str] = ()) -> Flask:
    """Make the WSGI application. Until ``latch`` is set, requests wait: they are served, not refused.

    ``reader`` answers jobs that only read while the engine does not. ``origins``: of web pages that may use the API.
    """
    app = Flask("dockyard", static_folder=None)
    app.url_rule_class = Route
    app.url_map.merge_slashes = False
    app.extensions["dockyard.bus"] = bus
    app.extensions["dockyard.reader"] = reader
    app.extensions["dockyard.origins"] = origins
    register_errors(app)
    enforce(app)

    @app.before_request
    def wait_for_activation() -> None:
        if not latch.is_set() and not latch.wait(LATCH_TIMEOUT):
            raise Unavailable("the engine is starting; try again in a moment")

    nouns = (system, build, attach, containers, events, images, distribution, networks, control, exec, volumes, archive)
    for noun in (*nouns, metrics, refused):
        app.register_blueprint(noun.routes)
    app.wsgi_app = Versions(app.wsgi_app, origins)  # type: ignore[method-assign]
    return app
