"""Networks as the engine keeps them: what is refused, in which words, and what outlives the engine."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec
import pytest

from services.engine.record import ContainerRecord
from shared.protocol import (
    IPAM,
    AllocateInterface,
    Conflict,
    ConnectNetwork,
    ContainerConfig,
    CreateContainer,
    CreateNetwork,
    DeleteNetwork,
    DisconnectNetwork,
    DockyardError,
    EndpointSettings,
    HostConfig,
    InitNetworkDriver,
    InspectContainer,
    InspectNetwork,
    InvalidArgument,
    IPAMConfig,
    KillContainer,
    ListContainers,
    ListNetworks,
    NetworkingConfig,
    NotFound,
    NotImplementedByUs,
    PermissionDenied,
    PruneNetworks,
    RenameContainer,
    RuntimeSetAddresses,
    RuntimeSetResolver,
    RuntimeStart,
    StartContainer,
)
from tests.unit.engine.test_engine import create, until

CONFIG = ContainerConfig(image="busybox")


def make(stack: Any, name: str = "app", **options: Any) -> str:
    return str(stack.client.call(CreateNetwork(name=name, **options)).id)


def start(stack: Any, name: str, network: str = "app", **asked: Any) -> str:
    endpoints = {network: EndpointSettings(**asked)} if asked else {}
    job = CreateContainer(
        name=name,
        config=CONFIG,
        host_config=HostConfig(network_mode=network),
        networking_config=NetworkingConfig(endpoints_config=endpoints),
    )
    container = str(stack.client.call(job).id)
    stack.client.call(StartContainer(container=container))
    return container


def networks_of(stack: Any, container: str) -> Any:
    return stack.client.call(InspectContainer(container=container)).network_settings.networks


def told_at_boot(stack: Any, boots: int) -> InitNetworkDriver:
    """Return what the netdriver is told when the engine boots for the ``boots``th time."""
    for _ in range(1000):
        told = [job for job in stack.world.calls if isinstance(job, InitNetworkDriver)]
        if len(told) >= boots:
            return told[-1]
        time.sleep(0.01)
    raise AssertionError("the engine did not boot")


def allocations(stack: Any, container: str) -> list[AllocateInterface]:
    return [j for j in stack.world.calls if isinstance(j, AllocateInterface) and j.container == container]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"name": ""}, InvalidArgument, "network name cannot be empty"),
        ({"name": "bridge"}, PermissionDenied, "operation is not permitted on predefined bridge network"),
        ({"name": "a/b"}, InvalidArgument, "invalid network name"),
        ({"driver": "flannel"}, NotFound, 'plugin "flannel" not found'),
        ({"driver": "overlay"}, NotImplementedByUs, "overlay"),
        ({"driver": "macvlan"}, InvalidArgument, "needs an interface of the host's: -o parent=NAME"),
        (
            {"driver": "macvlan", "options": {"parent": "lo"}},
            InvalidArgument,
            "loopback interface is not a valid macvlan",
        ),
        ({"driver": "ipvlan", "options": {"parent": "a/b"}}, InvalidArgument, "-o parent=NAME"),
        ({"driver": "ipvlan", "options": {"parent": "p", "ipvlan_mode": "l4"}}, InvalidArgument, "ipvlan mode: l4"),
        ({"driver": "ipvlan", "options": {"parent": "p", "ipvlan_flag": "x"}}, InvalidArgument, "ipvlan flag: x"),
        ({"driver": "host"}, PermissionDenied, 'only one instance of "host" network is allowed'),
        ({"enable_ipv4": False}, InvalidArgument, "IPv4 or IPv6 must be enabled"),
        ({"enable_ipv6": True, "options": {"com.docker.network.driver.mtu": "1000"}}, InvalidArgument, "mtu"),
        ({"ingress": True}, NotImplementedByUs, "ingress"),
        ({"options": {"com.docker.network.bridge.enable_icc": "maybe"}}, InvalidArgument, "enable_icc"),
        ({"options": {"com.docker.network.bridge.name": "x" * 16}}, InvalidArgument, "invalid interface name"),
        ({"options": {"com.docker.network.driver.mtu": "20"}}, InvalidArgument, "mtu"),
        (
            {"options": {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}},
            InvalidArgument,
            "gateway mode 'isolated' can only be used for an internal network",
        ),
        ({"options": {"com.docker.network.bridge.inhibit_ipv4": "x"}}, InvalidArgument, "inhibit_ipv4 value: 'x'"),
        (
            {"options": {"com.docker.network.bridge.trusted_host_interfaces": "eth0:a b"}},
            InvalidArgument,
            "invalid interface name: 'a b'",
        ),
        ({"options": {"com.docker.network.bridge.gateway_mode_ipv6": "x"}}, InvalidArgument, "unknown gateway mode x"),
        ({"options": {"com.docker.network.host_ipv4": "fd00::1"}}, InvalidArgument, "host_ipv4 value: 'fd00::1'"),
        ({"options": {"com.docker.network.container_iface_prefix": "a/b"}}, InvalidArgument, "invalid interface name"),
        ({"options": {"com.docker.network.container_iface_prefix": "x" * 13}}, InvalidArgument, "interface name"),
    ],
)
def test_what_is_no_network(stack: Any, options: dict[str, Any], error: type[DockyardError], text: str) -> None:
    with pytest.raises(error, match=text):
        make(stack, **{"name": "app", **options})
    assert not stack.world.networks


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"subnet": "nonsense"}, "invalid subnet nonsense: invalid CIDR block notation"),
        ({"subnet": "10.1.2.3"}, "invalid subnet 10.1.2.3: it should be 10.1.2.3/32"),
        ({"subnet": "10.1.0.1/16"}, "it should be 10.1.0.0/16"),
        ({"subnet": "10.1.0.0/31"}, "no containers fit"),
        ({"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}, "10.2.0.1: parent subnet 10.1.0.0/24 doesn't"),
        ({"subnet": "10.1.0.0/24", "gateway": "10.1.0.256"}, "invalid gateway 10.1.0.256: invalid address"),
        ({"subnet": "10.1.0.0/24", "ip_range": "10.1.0.7/28"}, "invalid ip-range 10.1.0.7/28: it should be 10.1.0.0"),
        ({"subnet": "10.1.0.0/24", "ip_range": "10.1.0.0/16"}, "block is bigger than its parent subnet 10.1.0.0/24"),
        ({"subnet": "10.1.0.0/24", "ip_range": "10.2.0.0/28"}, "parent subnet 10.1.0.0/24 doesn't contain ip-range"),
        ({"subnet": "10.1.0.0/24", "auxiliary_addresses": {"x": "10.1.0.255"}}, "invalid auxiliary address x: no host"),
        (
            {"subnet": "10.1.0.0/24", "gateway": "10.1.0.5", "auxiliary_addresses": {"x": "10.1.0.5"}},
            r"failed to allocate secondary ip address \(x:10.1.0.5\): Address already in use",
        ),
        ({"gateway": "10.2.0.1"}, "without a subnet"),
        ({"subnet": "fd00::1/64"}, "it should be fd00::/64"),
        ({"subnet": "fd00::/127"}, "no containers fit"),
        ({"subnet": "fd00::/64", "gateway": "10.2.0.1"}, "invalid gateway 10.2.0.1: parent subnet is an IPv6 block"),
        ({"subnet": "fd00::/64", "ip_range": "10.2.0.0/28"}, "10.2.0.0/28: parent subnet is an IPv6 block"),
    ],
)
def test_what_is_no_subnet(stack: Any, config: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        make(stack, enable_ipv6=True, ipam=IPAM(config=[IPAMConfig(**config)]))


BOTH = IPAM(
    config=[
        IPAMConfig(subnet="10.1.0.0/24", auxiliary_addresses={"a": "10.1.0.9"}),
        IPAMConfig(subnet="fd01::/64", gateway="fd01::99", auxiliary_addresses={"b": "fd01::9"}),
    ]
)


def test_a_network_of_both_families(stack: Any) -> None:
    make(stack, enable_ipv6=True, ipam=BOTH)
    asked = list(stack.world.networks.values())[-1]
    assert (asked.ipv4, asked.ipv6, asked.subnet, asked.subnet6) == (True, True, "10.1.0.0/24", "fd01::/64")
    assert (asked.gateway6, asked.auxiliary) == ("fd01::99", {"a": "10.1.0.9", "b": "fd01::9"})
    shown = stack.client.call(InspectNetwork(network="app"))
    assert shown.enable_ipv6
    assert [config.get("AuxiliaryAddresses") for config in shown.ipam["Config"]] == [
        {"a": "10.1.0.9"},
        {"b": "fd01::9"},
    ]


def test_a_subnet_of_a_family_that_is_not_enabled_is_left_out_and_the_user_told(stack: Any) -> None:
    created = stack.client.call(CreateNetwork(name="app", ipam=BOTH))
    assert created.warning == "fd01::/64: not used, for IPv6 is not enabled"
    assert list(stack.world.networks.values())[-1].subnet6 == ""


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"IPv6Address": "fd01::5"}, ""),
        ({"IPv6Address": "fd02::5"}, "no configured subnet or ip-range contain the IP address fd02::5"),
        ({"IPv6Address": "10.1.0.5"}, "invalid IPv6 address: 10.1.0.5"),
        ({"IPv4Address": "fd01::5"}, "invalid IPv4 address: fd01::5"),
        ({"LinkLocalIPs": ["169.254.8.8", "fe80::8"]}, ""),
        ({"LinkLocalIPs": ["nonsense"]}, "invalid link-local IP address: nonsense"),
    ],
)
def test_addresses_that_are_asked_for(stack: Any, asked: dict[str, Any], text: str) -> None:
    make(stack, enable_ipv6=True, ipam=BOTH)
    if text:
        with pytest.raises(InvalidArgument, match=text):
            start(stack, "web", ipam_config=asked)
        return
    container = start(stack, "web", ipam_config=asked)
    job = allocations(stack, container)[-1]
    assert (job.address6, job.link_local) == (asked.get("IPv6Address", ""), asked.get("LinkLocalIPs", []))


def test_a_macvlan_network_is_its_driver_s(stack: Any) -> None:
    make(stack, driver="macvlan", options={"parent": "eth7"})
    (asked,) = stack.world.networks.values()
    assert (asked.parent, asked.mode) == ("eth7", "bridge")
    assert stack.client.call(InspectNetwork(network="app")).driver == "macvlan"
    assert allocations(stack, start(stack, "web"))[-1].mode == "macvlan"


def test_networks_are_found_by_name_id_and_prefix_and_outlive_the_engine(stack: Any) -> None:
    network = make(stack, labels={"a": "b"})
    with pytest.raises(Conflict, match="network with name app already exists"):
        make(stack)
    told_at_boot(stack, 1)  # which may be after the network has been made
    stack.restart_engine()
    for ref in ("app", network, network[:10]):
        assert stack.client.call(InspectNetwork(network=ref)).id == network
    assert [one.id for one in told_at_boot(stack, 2).networks] == [network]
    with pytest.raises(NotFound, match="network nobody not found"):
        stack.client.call(InspectNetwork(network="nobody"))


def test_filters(stack: Any) -> None:
    make(stack, labels={"tier": "back"})
    make(stack, "idle")
    start(stack, "web")

    def found(**filters: list[str]) -> list[str]:
        return [network.name for network in stack.client.call(ListNetworks(filters=filters))]

    assert found(type=["custom"]) == ["app", "idle"]
    assert found(type=["builtin"]) == ["bridge", "host", "none"]
    assert found(label=["tier=back"]) == ["app"]
    assert found(dangling=["true"]) == ["idle"]
    assert found(dangling=["false"]) == ["app", "bridge", "host", "none"]
    assert found(driver=["null"], scope=["local"]) == ["none"]
    assert found(name=["dl"]) == found(name=["^i.*e$"]) == ["idle"]
    assert found(name=["^dl"]) == found(name=["("]) == []
    assert found(id=[stack.client.call(InspectNetwork(network="app")).id[3:20]]) == ["app"]
    for wrong in ({"type": ["odd"]}, {"dangling": ["maybe"]}, {"colour": ["red"]}):
        with pytest.raises(InvalidArgument):
            found(**wrong)


def test_a_list_tells_of_containers_if_it_is_to(stack: Any) -> None:
    make(stack)
    container = start(stack, "web")
    for detailed, there in ((False, []), (True, [container])):
        listed = stack.client.call(ListNetworks(detailed=detailed))
        assert {one.name: list(one.containers) for one in listed} == {
            "app": there, "bridge": [], "host": [], "none": [],
        }  # fmt: skip


def test_prune_keeps_what_a_container_has_be_it_stopped(stack: Any) -> None:
    make(stack)
    make(stack, "idle")
    create(stack, "web", network_mode="app")
    assert stack.client.call(PruneNetworks()).networks_deleted == ["idle"]
    assert stack.client.call(PruneNetworks()).networks_deleted is None


def test_a_network_with_running_containers_is_not_removed(stack: Any) -> None:
    network = make(stack)
    container = start(stack, "web")
    with pytest.raises(PermissionDenied, match=r'network app has active endpoints \(name:"web" id:'):
        stack.client.call(DeleteNetwork(network="app"))
    stack.client.call(KillContainer(container=container))
    until(stack, container, "exited")
    stack.client.call(DeleteNetwork(network=network[:8]))
    assert not stack.world.networks
    with pytest.raises(NotFound, match="network app not found"):
        stack.client.call(StartContainer(container="web"))
    make(stack)  # of the same name
    stack.client.call(StartContainer(container="web"))


def test_a_mode_is_kept_as_a_name_or_a_whole_id(stack: Any) -> None:
    network = make(stack)
    modes = {"app": "app", network: network, network[:12]: network, "late": "late"}
    for mode, kept in modes.items():
        job = CreateContainer(config=CONFIG, host_config=HostConfig(network_mode=mode))
        shown = stack.client.call(InspectContainer(container=stack.client.call(job).id))
        assert shown.host_config.network_mode == kept
        assert list(shown.network_settings.networks) == ["late" if mode == "late" else "app"]


@pytest.mark.parametrize(
    ("options", "families"),
    [
        ({"options": {"com.docker.network.enable_ipv6": "true"}}, (True, True)),
        ({"options": {"com.docker.network.enable_ipv6": "true"}, "enable_ipv6": False}, (True, False)),
        ({"options": {"com.docker.network.enable_ipv4": "0"}, "enable_ipv6": True}, (False, True)),
    ],
)
def test_families_are_chosen_by_options_too(stack: Any, options: dict[str, Any], families: tuple[bool, bool]) -> None:
    made = stack.world.networks[make(stack, **options)]
    assert (made.ipv4, made.ipv6) == families


@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_predefined_networks_stay(stack: Any, name: str) -> None:
    with pytest.raises(PermissionDenied, match=f"{name} is a pre-defined network and cannot be removed"):
        stack.client.call(DeleteNetwork(network=name))


def test_names_go_to_the_netdriver_also_after_a_rename(stack: Any) -> None:
    make(stack)
    container = start(stack, "web", aliases=["front"], links=["db:store"])
    (job,) = allocations(stack, container)
    assert job.names == ["web", "front", container[:12]]
    assert job.links == {"store": "db"}
    stack.client.call(RenameContainer(container="web", name="new"))
    assert allocations(stack, container)[-1].names[0] == "new"


def test_connect_and_disconnect_a_container_that_runs(stack: Any) -> None:
    network = make(stack)
    container = start(stack, "web", network="bridge")
    stack.client.call(ConnectNetwork(network="app", container="web"))
    places = networks_of(stack, container)
    assert {name: place.ip_address[:8] for name, place in places.items()} == {"bridge": "192.0.2.", "app": "198.51.1"}
    assert places["app"].network_id == network
    assert stack.client.call(InspectNetwork(network="app")).containers[container]["Name"] == "web"
    assert [job.resolver for job in stack.world.calls if isinstance(job, RuntimeSetResolver)] == ["127.0.0.11"]
    with pytest.raises(PermissionDenied, match="endpoint with name web already exists in network app"):
        stack.client.call(ConnectNetwork(network="app", container="web"))
    stack.client.call(DisconnectNetwork(network="bridge", container="web"))
    assert list(networks_of(stack, container)) == ["app"]
    with pytest.raises(PermissionDenied, match="is not connected to network bridge"):
        stack.client.call(DisconnectNetwork(network="bridge", container="web"))
    with pytest.raises(PermissionDenied, match="is not connected to network host"):
        stack.client.call(DisconnectNetwork(network="host", container="web"))
    with pytest.raises(NotFound, match="endpoint ghost not found"):
        stack.client.call(DisconnectNetwork(network="app", container="ghost", force=True))
    stack.restart_engine()
    assert list(networks_of(stack, container)) == ["app"]
    assert told_at_boot(stack, 2).connected == {container: [network]}


def test_the_hosts_file_is_told_of_all_addresses_and_of_those_that_are_gone(stack: Any) -> None:
    make(stack)
    make(stack, "other")
    start(stack, "web", network="app", aliases=["front"])
    places = {"app": EndpointSettings(), "other": EndpointSettings()}
    job = CreateContainer(
        name="two", config=CONFIG, networking_config=NetworkingConfig(endpoints_config=places),
        host_config=HostConfig(network_mode="app"),
    )  # fmt: skip
    stack.client.call(StartContainer(container=stack.client.call(job).id))
    started = [job.addresses for job in stack.world.calls if isinstance(job, RuntimeStart)]
    assert started == [["198.51.100.2"], ["198.51.100.2", "198.51.100.3"]]
    stack.client.call(ConnectNetwork(network="other", container="web"))
    stack.client.call(DisconnectNetwork(network="app", container="web"))
    told = [(job.addresses, job.gone) for job in stack.world.calls if isinstance(job, RuntimeSetAddresses)]
    assert told == [(["198.51.100.2", "198.51.100.3"], []), (["198.51.100.3"], ["198.51.100.2"])]


def test_a_connect_that_fails_changes_nothing(stack: Any) -> None:
    make(stack)
    container = start(stack, "web", network="bridge")

    def fail(job: Any) -> None:
        raise Conflict("Bind for 0.0.0.0:80 failed: port is already allocated")

    stack.world.script["allocate_interface"] = fail
    text = (
        r"^driver failed programming external connectivity on endpoint web \([0-9a-f]{64}\): Bind for 0.0.0.0:80 failed"
    )
    with pytest.raises(DockyardError, match=text):
        stack.client.call(ConnectNetwork(network="app", container="web"))
    assert list(networks_of(stack, container)) == ["bridge"]


def test_what_the_netdriver_has_forgotten_is_made_again(stack: Any) -> None:
    network = make(stack)
    container = start(stack, "web")
    stack.world.interfaces.clear()
    stack.restart_engine()
    for _ in range(1000):
        if network in stack.world.interfaces.get(container, {}):
            return
        time.sleep(0.01)
    raise AssertionError("it was not made again")


def test_names_of_links_inside_are_the_network_s_or_the_endpoint_s(stack: Any) -> None:
    make(stack, options={"com.docker.network.container_iface_prefix": "lan"})
    assert next(iter(stack.world.networks.values())).iface_prefix == "lan"
    options = {
        "com.docker.network.endpoint.ifname": "front0",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.forwarding=0,net.ipv6.neigh.ifname.app_solicit=4",
    }
    container = start(stack, "web", driver_opts=options)
    (job,) = allocations(stack, container)
    assert job.ifname == "front0"
    assert job.sysctls == {"net.ipv4.conf.IFNAME.forwarding": "0", "net.ipv6.neigh.IFNAME.app_solicit": "4"}
    assert networks_of(stack, container)["app"].driver_opts == options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ifname", "a/b"),
        ("sysctls", "net.ipv4.conf.eth0.forwarding=0"),
        ("sysctls", "net.ipv4.conf.IFNAME.forwarding"),
        ("sysctls", "net.core.IFNAME.somaxconn=1"),
        ("sysctls", "net.ipv4.conf.IFNAME.a/b=1"),
        ("sysctls", "net.ipv4.conf.IFNAME...=1"),
        ("sysctls", "kernel.x.IFNAME.y=1"),
    ],
)
def test_options_of_an_endpoint_that_are_wrong(stack: Any, option: str, value: str) -> None:
    make(stack)
    with pytest.raises(InvalidArgument, match=re.escape(value)):
        start(stack, "other", driver_opts={f"com.docker.network.endpoint.{option}": value})


@pytest.mark.parametrize(
    ("network", "ports"),
    [("bridge", {"80/tcp": None}), ("app", {"80/tcp": None}), ("lan", {}), ("host", {}), ("none", {})],
)
def test_a_port_is_exposed_on_a_bridge_alone(stack: Any, network: str, ports: dict[str, Any]) -> None:
    make(stack)
    make(stack, "lan", driver="macvlan", options={"parent": "eth0"})
    config = ContainerConfig(image="busybox", exposed_ports={"80/tcp": {}})
    job = CreateContainer(name="web", config=config, host_config=HostConfig(network_mode=network))
    container = stack.client.call(job).id
    stack.client.call(StartContainer(container=container))
    settings = stack.client.call(InspectContainer(container=container)).network_settings
    assert settings.ports == ports
    assert bool(stack.client.call(ListContainers())[0].ports) is bool(ports)
    there = stack.client.call(InspectNetwork(network=network)).containers[container]
    assert len(there["EndpointID"]) == 64
    assert settings.networks[network].endpoint_id == there["EndpointID"]


@pytest.mark.parametrize("mode", ["host", "none", "container:web"])
def test_some_modes_go_with_no_other_network(stack: Any, mode: str) -> None:
    make(stack)
    create(stack, "web")
    create(stack, "shut", network_mode=mode)
    with pytest.raises(InvalidArgument):
        stack.client.call(ConnectNetwork(network="app", container="shut"))
    asked = NetworkingConfig(endpoints_config={mode: EndpointSettings(), "app": EndpointSettings()})
    with pytest.raises(InvalidArgument):
        stack.client.call(
            CreateContainer(
                name="other",
                config=CONFIG,
                host_config=HostConfig(network_mode=mode),
                networking_config=asked,
            )
        )


@pytest.mark.parametrize(
    ("network", "asked", "text"),
    [
        ("bridge", {"aliases": ["x"]}, "network-scoped alias is supported only for containers in user defined"),
        ("bridge", {"ipam_config": {"IPv4Address": "192.0.2.9"}}, "supported on user defined networks only"),
        ("app", {"ipam_config": {"IPv4Address": "198.51.100.9"}}, "networks with user configured subnets"),
        ("own", {"ipam_config": {"IPv4Address": "198.51.100.9"}}, "no configured subnet or ip-range contain"),
        ("own", {"ipam_config": {"IPv4Address": "nonsense"}}, "invalid IPv4 address"),
    ],
)
def test_addresses_that_cannot_be_asked_for(stack: Any, network: str, asked: dict[str, Any], text: str) -> None:
    make(stack)
    make(stack, "own", ipam=IPAM(config=[IPAMConfig(subnet="10.4.0.0/24")]))
    with pytest.raises(InvalidArgument, match=text):
        start(stack, "web", network=network, **asked)


def test_a_record_of_an_earlier_release_is_in_its_one_network() -> None:
    old = {
        "id": "1",
        "name": "web",
        "created": 1,
        "image": "i",
        "requested_image": "i",
        "args": [],
        "config": {},
        "host_config": {"NetworkMode": "bridge"},
        "endpoint": {"MacAddress": "02:00:00:00:00:01"},
        "connected": True,
        "status": "running",
        "interface": {"mode": "bridge", "address": "172.30.0.2", "name": "eth0"},
    }
    record = msgspec.json.decode(msgspec.json.encode(old), type=ContainerRecord)
    place = record.endpoints["bridge"]
    assert (place.asked.mac_address, place.connected) == ("02:00:00:00:00:01", True)
    assert place.interface is not None
    record.endpoints.clear()  # a disconnect is for good
    again = msgspec.json.decode(msgspec.json.encode(record), type=ContainerRecord)
    assert again.endpoints == {}
