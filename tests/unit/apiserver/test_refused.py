"""What is refused is what nobody serves."""

from __future__ import annotations

import threading

import pytest
from flask import Flask

from services.apiserver.app import create_app
from shared.bus.bus import FakeBus
from tests.unit.apiserver.test_routes import api, message


def app() -> Flask:
    bus, latch = FakeBus({}), threading.Event()
    latch.set()
    return create_app(bus, bus, latch)


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/grpc", 501, "BuildKit: not implemented"),
        ("POST", "/swarm/init", 501, "swarm mode: not implemented"),
        ("POST", "/swarm/leave", 503, "This node is not part of a swarm"),
        ("GET", "/swarm", 503, "This node is not a swarm manager"),
        ("PUT", "/volumes/v", 503, "volume update only valid for cluster volumes, but swarm is unavailable"),
        ("POST", "/plugins/vieux/sshfs:latest/enable", 404, 'plugin "vieux/sshfs:latest" not found'),
        ("DELETE", "/containers/web/checkpoints/one", 501, "checkpoints: not implemented"),
        ("GET", "/services/web", 503, "This node is not a swarm manager"),
    ],
)
def test_it_is_said_what_is_not_there(method: str, path: str, status: int, text: str) -> None:
    http, _ = api()
    answer = http.open(path, method=method, json={})
    assert answer.status_code == status
    assert text in message(answer)


def test_nothing_is_refused_that_is_served() -> None:
    rules = [(rule.rule, rule.methods or set(), rule.endpoint) for rule in app().url_map.iter_rules()]
    served = {(path, method) for path, methods, endpoint in rules for method in methods if "refused" not in endpoint}
    refused = {(path, method) for path, methods, endpoint in rules for method in methods if "refused" in endpoint}
    assert refused
    assert not (served & refused) - {(path, "OPTIONS") for path, _ in refused}
