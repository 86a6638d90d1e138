"""container: modes and links: other containers are found at create, and must run at the start."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from shared.protocol import (
    Conflict,
    ConnectNetwork,
    ContainerConfig,
    CreateContainer,
    CreateNetwork,
    HostConfig,
    InspectContainer,
    InvalidArgument,
    LinkContainers,
    ListContainers,
    NotFound,
    RemoveContainer,
    RenameContainer,
    RestartPolicy,
    RuntimeSetHost,
    RuntimeStart,
    StartContainer,
    StopContainer,
)
from tests.unit.engine.doing import create, state_of, until
from tests.unit.engine.test_hostconfig import shown, started

MODES = [("network_mode", "network"), ("pid_mode", "PID"), ("ipc_mode", "IPC")]


@pytest.fixture
def donor(stack: Any) -> str:
    container = create(stack, "donor")
    stack.client.call(StartContainer(container="donor"))
    return container


@pytest.mark.parametrize("field", [field for field, _ in MODES])
def test_the_other_container_is_known_by_its_id(stack: Any, donor: str, field: str) -> None:
    assert getattr(shown(stack, **{field: "container:donor"}), field) == f"container:{donor}"
    stack.client.call(RenameContainer(container="donor", name="other"))
    assert getattr(started(stack).host_config, field) == f"container:{donor}"


@pytest.mark.parametrize(("field", "title"), MODES)
def test_it_must_run_at_the_start(stack: Any, donor: str, field: str, title: str) -> None:
    create(stack, **{field: "container:donor"})
    stack.client.call(StopContainer(container="donor"))
    with pytest.raises(Conflict, match=f"cannot join {title} of a non running container: {donor}"):
        stack.client.call(StartContainer(container="web"))
    assert state_of(stack, "web").status == "created"
    assert not set(stack.world.interfaces) | stack.world.mounted
    stack.client.call(StartContainer(container="donor"))
    stack.client.call(StartContainer(container="web"))
    assert state_of(stack, "web").running


def test_one_that_comes_later_is_found_at_the_start(stack: Any) -> None:
    create(stack, network_mode="container:late")
    with pytest.raises(NotFound, match="No such container: late"):
        stack.client.call(StartContainer(container="web"))
    late = create(stack, "late")
    stack.client.call(StartContainer(container="late"))
    assert started(stack).host_config.network_mode == f"container:{late}"


@pytest.mark.parametrize("field", ["pid_mode", "ipc_mode"])
def test_whose_other_namespaces_are_joined_must_be_there(stack: Any, field: str) -> None:
    with pytest.raises(InvalidArgument, match="No such container: late"):
        create(stack, **{field: "container:late"})


def test_nobody_joins_itself(stack: Any) -> None:
    create(stack, network_mode="container:web")
    with pytest.raises(Conflict, match="cannot join own network namespace"):
        stack.client.call(StartContainer(container="web"))


def test_one_that_waits_for_its_restart_cannot_be_joined(stack: Any) -> None:
    container = create(stack, "donor", restart_policy=RestartPolicy(name="always"))
    stack.client.call(StartContainer(container="donor"))
    over = threading.Event()
    stack.world.script["runtime_start"] = lambda job: over.wait(20) and 1 / 0
    stack.world.exit(container, 1)
    until(stack, "donor", "restarting")
    create(stack, pid_mode="container:donor")
    with pytest.raises(Conflict, match="is restarting, wait until the container is running"):
        stack.client.call(StartContainer(container="web"))
    over.set()
    stack.client.call(StopContainer(container="donor"))


def test_a_shared_network_is_the_others(stack: Any) -> None:
    config = ContainerConfig(image="busybox", hostname="host", domainname="example.test")
    stack.client.call(CreateContainer(name="donor", config=config))
    stack.client.call(StartContainer(container="donor"))
    create(stack, network_mode="container:donor")
    job = started(stack)
    assert (job.interface.mode, job.config.hostname, job.config.domainname) == ("container", "host", "example.test")
    assert len(set(stack.world.interfaces)) == 1
    found = stack.client.call(InspectContainer(container="web"))
    assert (found.network_settings.networks, found.config.hostname) == ({}, "host")
    listed = {entry.names[0]: entry for entry in stack.client.call(ListContainers())}
    assert listed["/web"].network_settings.networks == {}


# -- links


@pytest.fixture
def database(stack: Any) -> str:
    config = ContainerConfig(
        image="busybox",
        env=["SECRET=s", "HOME=/x"],
        exposed_ports={"5432/tcp": {}, "53/udp": {}, "81": {}},
        hostname="dbhost",
    )
    container = str(stack.client.call(CreateContainer(name="database", config=config)).id)
    stack.client.call(StartContainer(container="database"))
    return container


def test_a_linked_container_is_in_hosts_and_environment(stack: Any, database: str) -> None:
    config = ContainerConfig(image="busybox", env=["DB_ENV_SECRET=mine"])
    stack.client.call(CreateContainer(name="web", config=config, host_config=HostConfig(links=["database:db"])))
    job = started(stack)
    assert job.host_config.extra_hosts == ["db dbhost database:192.0.2.2"]
    env = job.config.env or []
    assert [entry for entry in env if entry.startswith("DB_")] == [
        "DB_NAME=/web/db",
        "DB_PORT=tcp://192.0.2.2:81",
        "DB_PORT_81_TCP=tcp://192.0.2.2:81",
        "DB_PORT_81_TCP_ADDR=192.0.2.2",
        "DB_PORT_81_TCP_PORT=81",
        "DB_PORT_81_TCP_PROTO=tcp",
        "DB_PORT_5432_TCP=tcp://192.0.2.2:5432",
        "DB_PORT_5432_TCP_ADDR=192.0.2.2",
        "DB_PORT_5432_TCP_PORT=5432",
        "DB_PORT_5432_TCP_PROTO=tcp",
        "DB_PORT_53_UDP=udp://192.0.2.2:53",
        "DB_PORT_53_UDP_ADDR=192.0.2.2",
        "DB_PORT_53_UDP_PORT=53",
        "DB_PORT_53_UDP_PROTO=udp",
        "DB_ENV_LANG=C",
        "DB_ENV_SECRET=mine",  # what the request gave wins
    ]
    shown_env = stack.client.call(InspectContainer(container="web")).config.env
    assert [entry for entry in shown_env if entry.startswith("DB_")] == ["DB_ENV_SECRET=mine"]


def test_links_follow_names(stack: Any, database: str) -> None:
    assert shown(stack, links=["database:db"]).links == ["/database:/web/db"]
    stack.client.call(RenameContainer(container="database", name="store"))
    stack.client.call(RenameContainer(container="web", name="site"))
    found = stack.client.call(InspectContainer(container="site")).host_config
    assert found.links == ["/store:/site/db"]
    (listed,) = [entry for entry in stack.client.call(ListContainers()) if entry.id == database]
    assert listed.names == ["/store", "/site/db"]
    names = ("site/db", "/site/db")
    assert [stack.client.call(InspectContainer(container=name)).id for name in names] == [database, database]
    for unknown in ("site/other", "nobody/db", "site/", "/db"):
        with pytest.raises(NotFound, match=f"No such container: {unknown}"):
            stack.client.call(InspectContainer(container=unknown))
    create(stack, "copy", links=found.links)  # as it was shown
    assert stack.client.call(InspectContainer(container="copy")).host_config.links == ["/store:/copy/db"]


def test_a_linked_container_must_run_and_one_that_is_gone_is_linked_no_more(stack: Any, database: str) -> None:
    create(stack, links=["database"])
    stack.client.call(StopContainer(container="database"))
    with pytest.raises(Conflict, match="Cannot link to a non running container: /database AS /web/database"):
        stack.client.call(StartContainer(container="web"))
    stack.client.call(RemoveContainer(container="database"))
    assert started(stack).host_config.extra_hosts == []
    assert stack.client.call(InspectContainer(container="web")).host_config.links is None


def test_those_that_are_linked_to_it_learn_a_new_address(stack: Any, database: str) -> None:
    create(stack, links=["database:db"])
    create(stack, "idle", links=["database:db"])
    stack.client.call(StartContainer(container="web"))
    stack.client.call(StopContainer(container="database"))
    stack.client.call(StartContainer(container="database"))
    told = [job for job in stack.world.calls if isinstance(job, RuntimeSetHost)]
    assert [(job.name, job.address, job.directory.rpartition("/")[2]) for job in told] == [
        ("db", "192.0.2.2", stack.client.call(InspectContainer(container="web")).id)
    ]


def test_a_link_can_be_removed(stack: Any, database: str) -> None:
    create(stack, links=["database:db"])
    missing = [(ref, NotFound, f"No such container: {ref}") for ref in ("nobody", "web/x", "nobody/db")]
    for ref, error, text in (("web", Conflict, "cannot remove the default link name"), *missing):
        with pytest.raises(error, match=text):
            stack.client.call(RemoveContainer(container=ref, link=True))
    stack.client.call(RemoveContainer(container="/web/db", link=True))
    assert stack.client.call(InspectContainer(container="web")).host_config.links is None
    assert state_of(stack, "database").running


def test_who_has_the_hosts_network_cannot_be_linked(stack: Any) -> None:
    create(stack, "database", network_mode="host")
    with pytest.raises(InvalidArgument, match="host type networking can't be used with links"):
        create(stack, links=["database"])


def test_only_who_is_in_the_default_network_can_be_linked_and_at_its_address_there(stack: Any) -> None:
    stack.client.call(CreateNetwork(name="app"))
    create(stack, "database", network_mode="app")
    stack.client.call(StartContainer(container="database"))
    create(stack, "web", links=["database:db"])
    with pytest.raises(Conflict, match="Cannot link to /database, as it does not belong to the default network"):
        stack.client.call(StartContainer(container="web"))
    stack.client.call(ConnectNetwork(network="bridge", container="database"))
    (entry,) = started(stack).host_config.extra_hosts or []
    places = stack.client.call(InspectContainer(container="database")).network_settings.networks
    assert entry.rpartition(":")[2] == places["bridge"].ip_address != places["app"].ip_address


def test_where_containers_cannot_talk_a_link_is_allowed_before_the_start_and_until_it_is_removed(
    stack: Any, database: str
) -> None:
    object.__setattr__(stack.config, "icc", False)
    web = create(stack, "web", links=["database:db"])
    stack.client.call(StartContainer(container=web))
    jobs = [job for job in stack.world.calls if isinstance(job, LinkContainers | RuntimeStart)]
    started = next(index for index, job in enumerate(jobs) if isinstance(job, RuntimeStart) and job.container == web)
    link = jobs[started - 1]
    assert isinstance(link, LinkContainers)
    assert (link.action, set(link.ports)) == ("-I", {"5432/tcp", "53/udp", "81/tcp"})
    stack.client.call(RemoveContainer(container="/web/db", link=True))
    ended = [job for job in stack.world.calls if isinstance(job, LinkContainers)][-1]
    assert (ended.action, ended.child_ip) == ("-D", link.child_ip)
