"""What tests of the engine do over and over: create a container, look at its state, read the events."""

from __future__ import annotations

import threading
from typing import Any

from shared.protocol import ContainerConfig, CreateContainer, HostConfig, InspectContainer, ReadEvents

__all__ = ["actions", "create", "state_of", "until"]


def create(stack: Any, name: str = "web", **host: Any) -> str:
    job = CreateContainer(name=name, config=ContainerConfig(image="busybox"), host_config=HostConfig(**host))
    return str(stack.client.call(job).id)


def state_of(stack: Any, ref: str) -> Any:
    return stack.client.call(InspectContainer(container=ref)).state


def actions(stack: Any) -> list[str]:
    return [event.action for event in stack.client.call(ReadEvents(after=0))]


def until(stack: Any, ref: str, wanted: str) -> None:
    deadline = threading.Event()
    for _ in range(500):
        if state_of(stack, ref).status == wanted:
            return
        deadline.wait(0.01)
    raise AssertionError(f"{ref} is {state_of(stack, ref).status}, not {wanted}")
