"""Routes of networks: which job each request becomes."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol import (
    IPAM,
    ConnectNetwork,
    CreateNetwork,
    DeleteNetwork,
    DisconnectNetwork,
    EndpointSettings,
    InspectNetwork,
    IPAMConfig,
    Job,
    ListNetworks,
    NetworkCreated,
    NetworkInspect,
    NetworksPruned,
    PruneNetworks,
)
from tests.unit.apiserver.test_routes import api

SHOWN = NetworkInspect(name="app", id="1" * 64, created="", scope="local", driver="bridge")
ANSWERS: dict[str, Any] = {
    "network_create": NetworkCreated(id="1" * 64),
    "networks_prune": NetworksPruned(networks_deleted=["app"]),
    "networks": [SHOWN],
    "network_inspect": SHOWN,
}
BODY = {
    "Name": "app", "CheckDuplicate": True, "Driver": "bridge", "Internal": True, "EnableIPv6": False, "Scope": "local",
    "IPAM": {"Driver": "default", "Options": None, "Config": [
        {"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24", "Gateway": "10.1.0.1",
         "AuxiliaryAddresses": {"r": "10.1.0.9"}},
    ]},
    "Options": {"com.docker.network.driver.mtu": "1400"}, "Labels": {"a": "b"}, "ConfigFrom": {"Network": ""},
}  # fmt: skip
CREATE = CreateNetwork(
    name="app", driver="bridge", internal=True, enable_ipv6=False, scope="local", labels={"a": "b"},
    options={"com.docker.network.driver.mtu": "1400"},
    ipam=IPAM(config=[IPAMConfig(
        subnet="10.1.0.0/16", ip_range="10.1.2.0/24", gateway="10.1.0.1", auxiliary_addresses={"r": "10.1.0.9"},
    )]),
)  # fmt: skip
ENDPOINT = {"Aliases": ["x"], "IPAMConfig": {"IPv4Address": "10.1.0.7"}, "MacAddress": "", "Links": None}
CONNECT = ConnectNetwork(
    network="app",
    container="web",
    endpoint_config=EndpointSettings(aliases=["x"], ipam_config={"IPv4Address": "10.1.0.7"}),
)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "job"),
    [
        ("POST", "/networks/create", BODY, 201, CREATE),
        ("GET", '/networks?filters={"name":["app"]}', None, 200, ListNetworks(filters={"name": ["app"]})),
        ("GET", "/networks/app", None, 200, InspectNetwork(network="app")),
        ("DELETE", "/networks/app", None, 204, DeleteNetwork(network="app")),
        ("POST", "/networks/app/connect", {"Container": "web", "EndpointConfig": ENDPOINT}, 200, CONNECT),
        ("POST", "/networks/app/connect", {"Container": "web"}, 200, ConnectNetwork(network="app", container="web")),
        (
            "POST", "/networks/app/disconnect", {"Container": "web", "Force": True}, 200,
            DisconnectNetwork(network="app", container="web", force=True),
        ),
        ("POST", '/networks/prune?filters={"label":["a"]}', None, 200, PruneNetworks(filters={"label": ["a"]})),
    ],
)  # fmt: skip
def test_a_request_is_one_job(method: str, path: str, body: Any, status: int, job: Job[Any]) -> None:
    http, bus = api(**ANSWERS)
    answer = http.open(path, method=method, json=body)
    assert answer.status_code == status
    assert bus.calls == [job]


def test_what_was_created_and_pruned_is_told() -> None:
    http, _ = api(**ANSWERS)
    assert http.post("/networks/create", json=BODY).json == {"Id": "1" * 64, "Warning": ""}
    assert http.post("/networks/prune").json == {"NetworksDeleted": ["app"]}
