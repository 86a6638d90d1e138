"""``bridge = none``: no network ``bridge``; who is in no other network has none."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol import (
    AllocateInterface,
    Bridge,
    Conflict,
    ConnectNetwork,
    CreateContainer,
    CreateNetwork,
    DeleteNetwork,
    HostConfig,
    InspectContainer,
    InspectNetwork,
    ListNetworks,
    NotFound,
    PermissionDenied,
    ReadEvents,
    RuntimeStart,
    StartContainer,
)
from tests.unit.engine.test_jobs import until
from tests.unit.engine.test_networks import CONFIG, allocations, networks_of

BRIDGE = Bridge(name="dyt0", address="192.0.2.1/24", subnet="192.0.2.0/24", mtu=1500)


@pytest.fixture
def bare(stack: Any) -> Any:
    return without_bridge(stack)


def without_bridge(stack: Any) -> Any:
    stack.world.bridge = Bridge(name="none", address="", subnet="", mtu=0)
    stack.restart_engine()
    until(lambda: "bridge" not in names(stack))
    return stack


def names(stack: Any) -> list[str]:
    return [network.name for network in stack.client.call(ListNetworks())]


def run(stack: Any, mode: str = "", **host_config: Any) -> str:
    job = CreateContainer(config=CONFIG, host_config=HostConfig(network_mode=mode, **host_config))
    container = str(stack.client.call(job).id)
    stack.client.call(StartContainer(container=container))
    return container


def test_the_network_is_not_there_and_comes_back(bare: Any) -> None:
    assert names(bare) == ["host", "none"]
    for job in (
        InspectNetwork(network="bridge"),
        DeleteNetwork(network="bridge"),
        ConnectNetwork(network="bridge", container=run(bare)),
    ):
        with pytest.raises(NotFound, match="network bridge not found"):
            bare.client.call(job)
    with pytest.raises(PermissionDenied, match="predefined bridge network"):
        bare.client.call(CreateNetwork(name="bridge"))
    bare.world.bridge = BRIDGE
    bare.restart_engine()
    until(lambda: names(bare) == ["bridge", "host", "none"])


@pytest.mark.parametrize("mode", ["", "default", "bridge"])
def test_a_container_has_no_network(bare: Any, mode: str) -> None:
    container = run(bare, mode)
    assert [job.mode for job in allocations(bare, container)] == ["none"]
    (start,) = (job for job in bare.world.calls if isinstance(job, RuntimeStart))
    assert start.interface.mode == "none"
    place = networks_of(bare, container)["bridge"]
    assert (place.network_id, place.endpoint_id, place.ip_address) == ("", "", "")
    settings = bare.client.call(InspectContainer(container=container)).network_settings
    assert settings.ports == {}
    assert not [event for event in bare.client.call(ReadEvents(after=0)) if event.type == "network"]


def test_one_that_it_is_connected_to_is_its_network(bare: Any) -> None:
    bare.client.call(CreateNetwork(name="app"))
    created = str(bare.client.call(CreateContainer(config=CONFIG, host_config=HostConfig())).id)
    for container in (run(bare), created):
        bare.client.call(ConnectNetwork(network="app", container=container))
    bare.client.call(StartContainer(container=created))
    assert [job.network != "" for job in allocations(bare, created)] == [True]
    assert networks_of(bare, created)["app"].ip_address


def test_a_link_leads_nowhere_and_is_refused(bare: Any) -> None:
    child = run(bare)
    with pytest.raises(Conflict, match="as it does not belong to the default network"):
        run(bare, links=[f"{child}:db"])


def test_with_the_bridge_again_they_have_it(bare: Any) -> None:
    created = str(bare.client.call(CreateContainer(config=CONFIG, host_config=HostConfig())).id)
    bare.world.bridge = BRIDGE
    bare.restart_engine()
    until(lambda: "bridge" in names(bare))
    bare.client.call(StartContainer(container=created))
    assert isinstance(allocations(bare, created)[0], AllocateInterface)
    assert networks_of(bare, created)["bridge"].ip_address == "192.0.2.2"
