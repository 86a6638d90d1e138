"""What a listener's policy lets through, whatever way a path is spelt."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apiserver import policy
from services.apiserver.policy import AllowList, policies, policy_of_connection
from services.apiserver.tls import Peer, common_name
from shared.protocol import ContainerExit
from shared.runtime.config import Config, ConfigError
from tests.specification.schemas import operations
from tests.unit.apiserver.test_endpoints import concrete
from tests.unit.apiserver.test_refused import app
from tests.unit.apiserver.test_routes import api, message


def ask(given_policy: policy.Policy, method: str, path: str, **answers: Any) -> Any:
    http, bus = api(**answers)
    token = policy_of_connection.set(given_policy)
    try:
        return http.open(path, method=method, json={} if method == "POST" else None), bus
    finally:
        policy_of_connection.reset(token)


def policy_of(host: str) -> policy.Policy:
    (made,) = policies(Config(hosts=(host,)), app())
    return made


REFUSED = [one for one in operations() if one.method not in ("GET", "HEAD") or one.path.endswith("/ws")]


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: f"{one.method} {one.path}")
def test_nothing_is_changed_by_a_read_only_listener(one: Any) -> None:
    if one.path == "/containers/{id}/wait":
        return
    answer, bus = ask(policy_of("unix:///x?policy=read-only"), one.method, concrete(one.path))
    assert (answer.status_code, bus.calls) == (403, [])
    assert "policy does not allow it" in message(answer)


def test_a_read_only_listener_shows_and_waits() -> None:
    read_only = policy_of("unix:///x?policy=read-only")
    assert ask(read_only, "GET", "/v1.41/containers/json", containers=[])[0].status_code == 200
    done = ContainerExit(status_code=0)
    assert ask(read_only, "POST", "/containers/x/wait", wait=done)[0].status_code == 200


LISTED = "unix:///x?allow=GET:/containers/json&allow=/containers/{id}/logs&allow=POST:/images/{name}/tag"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/containers/json", 200), ("HEAD", "/containers/json", 404), ("GET", "/_ping", 200),
        ("HEAD", "/_ping", 200), ("GET", "/v1.30/version", 200), ("GET", "/nowhere", 404),
        ("POST", "/images/a/b/tag", 201), ("GET", "/images/a/b/json", 403), ("POST", "/containers/create", 403),
        ("GET", "/containers/json/json", 403), ("GET", "/v1.51/info", 403), ("DELETE", "/containers/json", 403),
        ("POST", "/containers/x/logs/../../containers/x/kill", 403), ("POST", "/containers/x%2flogs/kill", 403),
    ],
)  # fmt: skip
def test_an_allow_list_allows_what_it_names(method: str, path: str, status: int) -> None:
    answers: dict[str, Any] = {"containers": [], "tag": None, "version": {}}
    assert ask(policy_of(LISTED), method, path, **answers)[0].status_code == status


def test_an_endpoint_that_there_is_not_is_an_error() -> None:
    for wrong in ("GET:/containers/jsn", "PUT:/containers/json", "/containers"):
        with pytest.raises(ConfigError, match=r"hosts: .*there is no "):
            policy_of(f"unix:///x?allow={wrong}")


@given(st.sets(st.sampled_from(sorted((one.method, concrete(one.path)) for one in operations()))))
def test_an_allow_list_allows_nothing_else(chosen: set[tuple[str, str]]) -> None:
    allowed = AllowList(chosen)
    for method, path in itertools.product(("GET", "POST", "DELETE", "PUT"), {path for _, path in chosen} | {"/x"}):
        assert allowed(method, path) == ((method, path) in chosen)


def test_a_peer_is_told_by_its_certificate_and_address() -> None:
    peer = Peer(("192.0.2.1", 4711))
    assert str(peer) == "192.0.2.1:4711"
    peer.name = common_name({"subject": ((("countryName", "X"),), (("commonName", "alice"),))})
    assert str(peer) == "CN=alice 192.0.2.1:4711"
    assert str(Peer(("::1", 1, 0, 0))) == "[::1]:1"
    assert common_name(None) == common_name({}) == ""
