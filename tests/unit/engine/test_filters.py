"""What `docker ps`, `docker images` and the prunes are asked to show: keys and values as moby has them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol import (
    ContainerConfig,
    CreateContainer,
    HostConfig,
    InvalidArgument,
    KillContainer,
    ListContainers,
    ListImages,
    ListNetworks,
    ListVolumes,
    PortBinding,
    PruneContainers,
    PruneNetworks,
    StartContainer,
)
from tests.unit.engine.doing import create, until


def names(stack: Any, *, everything: bool = True, **filters: list[str]) -> list[str]:
    return [one.names[0] for one in stack.client.call(ListContainers(all=everything, filters=filters))]


def test_publish_means_the_port_on_the_host_and_expose_the_one_inside(stack: Any) -> None:
    config = ContainerConfig(image="busybox", exposed_ports={"80/tcp": {}, "99/tcp": {}})
    host = HostConfig(port_bindings={"80/tcp": [PortBinding(host_port="8080")]})
    stack.client.call(CreateContainer(name="web", config=config, host_config=host))
    assert names(stack, publish=["8080"]) == []  # nothing is published before the start
    stack.client.call(StartContainer(container="web"))
    for port in ("8080", "8080/tcp", "8000-9000"):
        assert names(stack, publish=[port]) == ["/web"]
    for port in ("80", "8080/udp", "99"):
        assert names(stack, publish=[port]) == []
    for port in ("80", "99", "90-100"):
        assert names(stack, expose=[port]) == ["/web"]
    assert names(stack, expose=["8080"]) == []
    assert names(stack, expose=["8080"], publish=["8080"]) == ["/web"]  # one of them is enough


def test_only_a_status_means_those_that_do_not_run_too(stack: Any) -> None:
    create(stack)
    stack.client.call(StartContainer(container="web"))
    stack.client.call(KillContainer(container="web"))
    until(stack, "web", "exited")
    assert names(stack, everything=False, status=["exited"]) == ["/web"]
    assert names(stack, everything=False, exited=["137"]) == []
    assert names(stack, exited=["137"]) == ["/web"]


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (ListContainers(filters={"is-task": ["x"]}), r"invalid filter 'is-task=\[x\]'"),
        (ListImages(filters={"dangling": ["x"]}), r"invalid filter 'dangling=\[x\]'"),
        (ListNetworks(filters={"dangling": ["x"]}), r"invalid filter 'dangling=\[x\]'"),
        (ListVolumes(filters={"dangling": ["true", "false"]}), r"invalid filter 'dangling=\[true false\]'"),
        (PruneContainers(filters={"until": ["1h", "2h"]}), "more than one until filter specified"),
        (PruneNetworks(filters={"until": ["x"]}), 'failed to parse value as time or duration: "x"'),
    ],
)
def test_a_wrong_value_is_named_as_moby_names_it(stack: Any, job: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        stack.client.call(job)


@pytest.mark.parametrize("name", ["/", "/x", "x"])
def test_a_name_that_is_none_is_repeated_as_it_was_given(stack: Any, name: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"Invalid container name \({name}\)"):
        create(stack, name)
