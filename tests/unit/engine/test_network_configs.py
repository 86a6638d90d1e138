"""Networks that are a configuration for others: ConfigOnly, ConfigFrom."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol import (
    IPAM,
    Conflict,
    ConnectNetwork,
    CreateNetwork,
    DeleteNetwork,
    DockyardError,
    InspectNetwork,
    InvalidArgument,
    IPAMConfig,
    ListNetworks,
    MakeNetwork,
    NotFound,
    PermissionDenied,
    PruneNetworks,
    UnmakeNetwork,
)
from tests.unit.engine.test_engine import create
from tests.unit.engine.test_networks import make, start

MTU = {"com.docker.network.driver.mtu": "1400"}
SUBNETS = IPAM(config=[IPAMConfig(subnet="10.1.0.0/24", ip_range="10.1.0.64/26"), IPAMConfig(subnet="fd01::/64")])
GIVEN: dict[str, Any] = {"ipam": SUBNETS, "enable_ipv6": True, "options": MTU, "labels": {"tier": "back"}}


def calls(stack: Any, kind: type[Any]) -> list[Any]:
    return [job for job in stack.world.calls if isinstance(job, kind)]


def inspect(stack: Any, name: str) -> Any:
    return stack.client.call(InspectNetwork(network=name))


def test_a_configuration_is_a_record_and_nothing_else(stack: Any) -> None:
    make(stack, "conf", config_only=True, **GIVEN)
    seen = inspect(stack, "conf")
    assert (seen.driver, seen.scope, seen.config_only, seen.config_from) == ("null", "local", True, {"Network": ""})
    assert (seen.enable_ipv4, seen.enable_ipv6, seen.options, seen.labels) == (True, True, MTU, {"tier": "back"})
    assert seen.ipam["Config"] == [{"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.64/26"}, {"Subnet": "fd01::/64"}]
    stack.client.call(DeleteNetwork(network="conf"))
    assert not calls(stack, MakeNetwork)
    assert not calls(stack, UnmakeNetwork)


def test_a_network_made_from_a_configuration(stack: Any) -> None:
    make(stack, "conf", config_only=True, **GIVEN)
    make(stack, "app", config_from="conf", internal=True, attachable=True, ipam=IPAM(config=[]), options={})
    (asked,) = calls(stack, MakeNetwork)
    made = asked.network
    assert (made.driver, made.internal, made.ipv6, made.mtu) == ("bridge", True, True, 1400)
    assert (made.subnet, made.ip_range, made.subnet6) == ("10.1.0.0/24", "10.1.0.64/26", "fd01::/64")
    seen = inspect(stack, "app")
    assert (seen.config_only, seen.config_from, seen.internal) == (False, {"Network": "conf"}, True)
    assert (seen.options, seen.labels) == (MTU, {"tier": "back"})
    stack.restart_engine()
    with pytest.raises(PermissionDenied, match='configuration network "conf" is in use'):
        stack.client.call(DeleteNetwork(network="conf"))
    stack.client.call(DeleteNetwork(network="app"))
    stack.client.call(DeleteNetwork(network="conf"))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"config_only": True, "internal": True}, PermissionDenied, "can only contain network specific fields"),
        ({"config_only": True, "attachable": True}, PermissionDenied, "can only contain network specific fields"),
        ({"config_only": True, "config_from": "conf"}, PermissionDenied, "cannot depend on another configuration"),
        ({"config_only": True, "name": "host"}, PermissionDenied, "predefined host network"),
        ({"config_only": True, "name": "conf"}, Conflict, "network with name conf already exists"),
        ({"config_only": True, "ipam": IPAM(config=[IPAMConfig(subnet="x")])}, InvalidArgument, "invalid subnet x"),
        ({"config_from": "nosuch"}, NotFound, 'configuration network "nosuch" does not exist'),
        ({"config_from": "plain"}, NotFound, 'configuration network "plain" does not exist'),
        ({"config_from": "conf", "ipam": SUBNETS}, PermissionDenied, "user specified configurations are not supported"),
        ({"config_from": "conf", "labels": {"a": "b"}}, PermissionDenied, "user specified configurations are not"),
        ({"config_from": "conf", "enable_ipv6": True}, PermissionDenied, "user specified configurations are not"),
        ({"config_from": "conf", "enable_ipv4": False}, PermissionDenied, "user specified configurations are not"),
        ({"config_from": "conf", "options": MTU}, PermissionDenied, "network driver options are not supported"),
        ({"config_from": "odd"}, InvalidArgument, "unknown gateway mode x"),
    ],
)
def test_what_cannot_be(stack: Any, options: dict[str, Any], error: type[DockyardError], text: str) -> None:
    make(stack, "plain")
    make(stack, "conf", config_only=True, **GIVEN)
    make(stack, "odd", config_only=True, options={"com.docker.network.bridge.gateway_mode_ipv4": "x"})
    with pytest.raises(error, match=text):
        stack.client.call(CreateNetwork(**{"name": "app", **options}))
    assert len(calls(stack, MakeNetwork)) == 1


def test_nobody_is_in_a_configuration(stack: Any) -> None:
    make(stack, "conf", config_only=True)
    with pytest.raises(PermissionDenied, match="cannot create endpoint on configuration-only network"):
        start(stack, "web", "conf")
    container = create(stack)
    with pytest.raises(PermissionDenied, match="cannot create endpoint on configuration-only network"):
        stack.client.call(ConnectNetwork(network="conf", container=container))


def test_prune_leaves_configurations(stack: Any) -> None:
    make(stack, "conf", config_only=True)
    make(stack, "app", config_from="conf")
    assert stack.client.call(PruneNetworks()).networks_deleted == ["app"]
    listed = stack.client.call(ListNetworks(filters={"type": ["custom"]}))
    assert [network.name for network in listed] == ["conf"]
