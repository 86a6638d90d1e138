"""A container whose record cannot be read is not shown, but what it has is not touched until somebody removes it."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from shared.protocol import (
    AwaitService,
    Conflict,
    CreateVolume,
    DeleteImage,
    DeleteVolume,
    GraphCollect,
    InitNetworkDriver,
    ListContainers,
    ListVolumes,
    NotFound,
    PruneVolumes,
    RemoveContainer,
    StartContainer,
    SystemInfo,
)
from tests.unit.engine.doing import create

UNKNOWN_STATUS = 'replace(record, \'"status":"running"\', \'"status":"of a later release"\')'


def spoil(stack: Any, container: str, blob: str) -> None:
    """Have the record of a container changed to ``blob`` (SQL) while no engine is there."""
    stack.stop_engine()
    database = sqlite3.connect(stack.config.root / "engine.db")
    database.execute(f"UPDATE containers SET record = {blob} WHERE id = ?", (container,))
    database.commit()
    database.close()
    stack.world.calls.clear()
    stack.start_engine()
    stack.client.call(AwaitService(service="engine"))


@pytest.fixture(params=[UNKNOWN_STATUS, "substr(record, 1, 40)"], ids=["unknown value", "torn"])
def spoilt(stack: Any, request: Any) -> str:
    for name in ("data", "free"):
        stack.client.call(CreateVolume(name=name))
    container = create(stack, "bad", binds=["data:/data"])
    stack.client.call(StartContainer(container=container))
    spoil(stack, container, request.param)
    return container


def names(stack: Any) -> list[str]:
    return [volume.name for volume in stack.client.call(ListVolumes()).volumes]


def test_its_process_its_network_its_layer_and_its_mounts_stay(stack: Any, spoilt: str) -> None:
    assert stack.client.call(ListContainers(all=True)) == []
    assert any(spoilt in warning for warning in stack.client.call(SystemInfo())["Warnings"])
    assert set(stack.world.running) == {spoilt}
    (init,) = (job for job in stack.world.calls if isinstance(job, InitNetworkDriver))
    assert init.containers == {spoilt: None}
    (collect,) = (job for job in stack.world.calls if isinstance(job, GraphCollect))
    assert spoilt in collect.keep_containers
    assert stack.world.mounted_volumes == {"data"}


def test_its_volumes_and_its_image_stay(stack: Any, spoilt: str) -> None:
    stack.client.call(PruneVolumes(filters={"all": ["1"]}))
    assert "data" in names(stack)
    with pytest.raises(Conflict, match=rf"remove data: volume is in use - \[{spoilt}\]"):
        stack.client.call(DeleteVolume(volume="data"))
    with pytest.raises(Conflict, match="container"):
        stack.client.call(DeleteImage(image="busybox"))


def test_its_end_changes_nothing(stack: Any, spoilt: str) -> None:
    stack.world.exit(spoilt, 3)
    assert set(stack.world.running) == {spoilt}


def test_it_can_be_removed_by_force_alone(stack: Any, spoilt: str) -> None:
    with pytest.raises(Conflict, match="its record cannot be read"):
        stack.client.call(RemoveContainer(container=spoilt))
    with pytest.raises(NotFound):
        stack.client.call(RemoveContainer(container="bad", force=True))
    stack.client.call(RemoveContainer(container=spoilt[:12], force=True))
    assert not stack.world.running
    assert not stack.world.layers
    assert not stack.client.call(SystemInfo())["Warnings"]
    assert stack.client.call(PruneVolumes(filters={"all": ["1"]})).volumes_deleted == ["data", "free"]


def test_while_an_image_cannot_be_read_no_layer_is_collected(stack: Any) -> None:
    stack.client.call(CreateVolume(name="free"))
    stack.stop_engine()
    database = sqlite3.connect(stack.config.root / "engine.db")
    database.execute("UPDATE images SET record = '{}'")
    database.commit()
    database.close()
    stack.world.calls.clear()
    stack.start_engine()
    stack.client.call(AwaitService(service="engine"))
    assert not [job for job in stack.world.calls if isinstance(job, GraphCollect)]
