"""Policy: what clients of a listener may do. It is asked after routing, of the route: no spelling of a path gets by.

| policy       | allows                                                                                          |
|--------------|-------------------------------------------------------------------------------------------------|
| `full`       | all                                                                                             |
| `read_only`  | GET and HEAD, but no attach (it has a stdin); and POST /containers/{id}/wait                     |
| `AllowList`  | the endpoints it names; HEAD where GET is, if the endpoint has it                               |

Each allows ``/_ping`` and ``/version``: clients ask them before all else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar

from flask import Flask, request

from shared.protocol import NotFound, PermissionDenied
from shared.runtime import hosts
from shared.runtime.config import Config, ConfigError

__all__ = ["ROUTE", "full", "metrics_only", "path_of", "Policy", "enforce", "policies", "policy_of_connection"]

Policy = Callable[[str, str], bool]  # (method, path as ``/containers/{}/json``) → allowed

ALWAYS = ("/_ping", "/version")
METRICS = "/metrics"
ROUTE = "dockyard.route"  # in environ: the path of the route that was found
READING = ("GET", "HEAD", "OPTIONS")
CONVERTED = re.compile(r"<[^>]*>")


def full(_method: str, _path: str) -> bool:
    return True


def read_only(method: str, path: str) -> bool:
    if path == "/containers/{}/attach/ws":
        return False
    return method in READING or (method, path) == ("POST", "/containers/{}/wait")


def metrics_only(method: str, path: str) -> bool:
    """Of the listener that the setting ``metrics-addr`` asks for."""
    return (method, path) in (("GET", METRICS), ("HEAD", METRICS))


class AllowList:
    def __init__(self, endpoints: Iterable[tuple[str, str]]) -> None:
        self._endpoints = frozenset(endpoints)

    def __call__(self, method: str, path: str) -> bool:
        asked = "GET" if method == "HEAD" else method
        return any((name, path) in self._endpoints for name in (method, asked, ""))


# of the connection whose request the present thread answers
policy_of_connection: ContextVar[Policy] = ContextVar("dockyard_policy", default=full)


def path_of(rule: str) -> str:
    """Return a route's path with ``{}`` for each name; a slash at its end says nothing (``/networks/``)."""
    return CONVERTED.sub("{}", rule).rstrip("/")


def policies(config: Config, app: Flask) -> list[Policy]:
    """Return the policy of each of ``config.api_hosts``. Errors: ConfigError (an endpoint that there is not)."""
    known = {(method, path_of(rule.rule)) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    return [_policy(text, known) for text in config.api_hosts]


def _policy(text: str, known: set[tuple[str, str]]) -> Policy:
    host = hosts.parse_host(text)
    for method, path in host.allowed:
        if not any(path == there and method in ("", name) for name, there in known):
            raise ConfigError(f"hosts: {text!r}: there is no {method or 'endpoint'} {path}")
    if host.allowed:
        return AllowList(host.allowed)
    return read_only if host.policy == hosts.READ_ONLY else full


def enforce(app: Flask) -> None:
    """Have requests refused that the policy of their connection does not allow."""

    @app.before_request
    def check() -> None:
        if request.url_rule is None:
            return  # 404
        path, policy = path_of(request.url_rule.rule), policy_of_connection.get()
        request.environ[ROUTE] = path
        if path == METRICS and policy is not metrics_only:
            raise NotFound("page not found")
        if path not in ALWAYS and not policy(request.method, path):
            raise PermissionDenied(f"{request.method} {path}: this listener's policy does not allow it")
