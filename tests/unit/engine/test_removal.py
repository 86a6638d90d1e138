"""What is removed stays removed: whoever waited for the container meanwhile does not bring its record back."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from services.engine.record import ContainerRecord
from services.engine.store import Store
from shared.protocol import (
    AwaitService,
    ContainerConfig,
    CreateContainer,
    HostConfig,
    ReadEvents,
    RemoveContainer,
)


class HeldRemoval:
    """A removal that waits with the container's lock held, before the layer is gone, until `release`."""

    def __init__(self, stack: Any) -> None:
        self.stack, self.calls = stack, 0
        self.reached, self.let = threading.Event(), threading.Event()
        stack.world.script["layer_remove"] = self._hold
        self.thread = threading.Thread(target=stack.client.call, args=(RemoveContainer(container="web"),))
        self.thread.start()
        assert self.reached.wait(5)

    def _hold(self, job: Any) -> None:
        self.calls += 1
        self.reached.set()
        assert self.let.wait(5)

    def release(self) -> None:
        self.let.set()
        self.thread.join(5)
        assert not self.thread.is_alive()


def create(stack: Any) -> str:
    stack.client.call(AwaitService(service="engine"))
    return str(stack.client.call(CreateContainer(name="web", config=ContainerConfig(image="busybox"))).id)


def destroyed(stack: Any) -> int:
    events = stack.client.call(ReadEvents(since=1, until=time.time_ns()))
    return sum(event.action == "destroy" for event in events)


def test_a_driver_that_comes_back_meanwhile_does_not_have_it_removed_twice(stack: Any) -> None:
    create(stack)
    removal = HeldRemoval(stack)
    stack.restart_execdriver()  # the engine compares its records, and waits for the container
    time.sleep(0.3)
    removal.release()
    time.sleep(0.3)
    assert (removal.calls, destroyed(stack)) == (1, 1)
    create(stack)  # under the same name


def test_a_record_that_is_gone_cannot_be_changed(tmp_path: Path) -> None:
    """Whoever still has the container in hand, and writes, writes nothing."""
    store = Store(tmp_path)
    record = ContainerRecord(
        id="a" * 64,
        name="web",
        created=1,
        image="i",
        requested_image="busybox",
        args=[],
        config=ContainerConfig(image="busybox"),
        host_config=HostConfig(),
    )
    store.add_container(record)
    record.name = "db"
    store.put_container(record)
    assert [found.name for found in store.containers()] == ["db"]
    store.delete_container(record.id)
    store.put_container(record)
    assert store.containers() == []
    store.close()
