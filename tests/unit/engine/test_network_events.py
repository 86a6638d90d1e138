"""Events of a container's network and terminal: connect before start, disconnect after die; resize."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol import (
    DockyardError,
    Event,
    InspectNetwork,
    KillContainer,
    ReadEvents,
    RemoveContainer,
    ResizeContainer,
    StartContainer,
)
from tests.unit.engine.doing import create, until


def events(stack: Any, *actions: str) -> list[Event]:
    return [event for event in stack.client.call(ReadEvents(after=0)) if event.action in actions]


@pytest.mark.parametrize(("mode", "driver"), [("bridge", "bridge"), ("none", "null"), ("host", "host")])
def test_connect_and_disconnect(stack: Any, mode: str, driver: str) -> None:
    container = create(stack, network_mode=mode)
    stack.client.call(StartContainer(container=container))
    stack.client.call(KillContainer(container=container))
    stack.client.call(RemoveContainer(container=container))
    found = events(stack, "start", "die", "connect", "disconnect", "destroy")
    assert [event.action for event in found] == ["connect", "start", "die", "disconnect", "destroy"]
    network = stack.client.call(InspectNetwork(network=mode))
    for event in (found[0], found[3]):
        assert (event.type, event.actor.id) == ("network", network.id)
        assert event.actor.attributes == {"container": container, "name": mode, "type": driver}


def test_who_joins_a_network_connects_to_none(stack: Any) -> None:
    create(stack, "donor")
    stack.client.call(StartContainer(container="donor"))
    create(stack, "guest", network_mode="container:donor")
    before = len(events(stack, "connect"))
    stack.client.call(StartContainer(container="guest"))
    assert len(events(stack, "connect")) == before == 1


def test_a_start_that_fails_tells_of_neither(stack: Any) -> None:
    def fail(job: Any) -> None:
        raise DockyardError("no")

    stack.world.script["runtime_start"] = fail
    create(stack)
    with pytest.raises(DockyardError):
        stack.client.call(StartContainer(container="web"))
    assert not events(stack, "connect", "disconnect")


def test_a_disconnect_is_told_once_though_the_engine_comes_back(stack: Any) -> None:
    container = create(stack)
    stack.client.call(StartContainer(container=container))
    stack.restart_engine()
    stack.world.exit(container, 0)
    until(stack, container, "exited")
    stack.restart_engine()
    stack.client.call(RemoveContainer(container=container))
    assert [event.action for event in events(stack, "connect", "disconnect")] == ["connect", "disconnect"]


def test_a_resize_is_told(stack: Any) -> None:
    create(stack)
    stack.client.call(StartContainer(container="web"))
    stack.client.call(ResizeContainer(container="web", height=24, width=80))
    (event,) = events(stack, "resize")
    assert {"height": "24", "width": "80"}.items() <= event.actor.attributes.items()
