"""Volumes over HTTP, with a bus that answers what it is told."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from werkzeug.test import Client as HttpClient
from werkzeug.wrappers import Response

from services.apiserver.app import create_app
from shared.bus.bus import FakeBus
from shared.protocol import (
    Conflict,
    ContainerCreated,
    CreateVolume,
    DeleteVolume,
    ListVolumes,
    NotFound,
    PruneVolumes,
    Volume,
    VolumeList,
    VolumesPruned,
)

DATA = Volume(
    name="data", driver="local", mountpoint="/v/data/_data", created_at="2026-01-01T00:00:00Z", labels=None,
    scope="local", options={"type": "tmpfs"},
)  # fmt: skip
SHOWN = {
    "Name": "data", "Driver": "local", "Mountpoint": "/v/data/_data", "CreatedAt": "2026-01-01T00:00:00Z",
    "Labels": None, "Scope": "local", "Options": {"type": "tmpfs"},
}  # fmt: skip


def api(**answers: Any) -> tuple[HttpClient, FakeBus]:
    latch = threading.Event()
    latch.set()
    bus = FakeBus(answers)
    return HttpClient(create_app(bus, bus, latch), Response), bus


def test_create_takes_dockers_body_and_shows_dockers_volume() -> None:
    http, bus = api(volume_create=DATA)
    body = {"Name": "data", "DriverOpts": {"type": "tmpfs"}, "Labels": None, "Unknown": 1}
    answer = http.post("/v1.51/volumes/create", json=body)
    assert (answer.status_code, json.loads(answer.data)) == (201, SHOWN)
    assert bus.calls == [CreateVolume(name="data", driver_opts={"type": "tmpfs"})]


def test_list_has_volumes_and_warnings() -> None:
    http, bus = api(volumes=VolumeList(volumes=[DATA]))
    answer = http.get('/volumes?filters={"dangling":{"true":true}}')
    assert json.loads(answer.data) == {"Volumes": [SHOWN], "Warnings": None}
    assert bus.calls == [ListVolumes(filters={"dangling": ["true"]})]


def test_inspect_and_delete() -> None:
    http, bus = api(volume_inspect=NotFound("get data: no such volume"), volume_delete=Conflict("remove data: in use"))
    answer = http.get("/volumes/data")
    assert (answer.status_code, json.loads(answer.data)) == (404, {"message": "get data: no such volume"})
    assert http.delete("/volumes/data?force=1").status_code == 409
    assert bus.calls[-1] == DeleteVolume(volume="data", force=True)
    http, _ = api(volume_delete=None)
    assert http.delete("/volumes/data").status_code == 204


@pytest.mark.parametrize(
    ("version", "filters", "expected"),
    [("1.42", "", {}), ("1.41", "", {"all": ["true"]}), ("1.42", '{"all":["1"]}', {"all": ["1"]})],
)
def test_what_a_prune_takes_depends_on_the_version(version: str, filters: str, expected: dict[str, Any]) -> None:
    http, bus = api(volumes_prune=VolumesPruned(volumes_deleted=["a"], space_reclaimed=7))
    answer = http.post(f"/v{version}/volumes/prune", query_string={"filters": filters})
    assert json.loads(answer.data) == {"VolumesDeleted": ["a"], "SpaceReclaimed": 7}
    assert bus.calls == [PruneVolumes(filters=expected)]


def test_only_cluster_volumes_could_be_updated() -> None:
    assert api()[0].put("/volumes/data?version=1", json={}).status_code == 503


@pytest.mark.parametrize(("version", "top_only"), [("1.43", True), ("1.44", False)])
def test_how_far_down_read_only_goes_depends_on_the_version(version: str, top_only: bool) -> None:
    http, bus = api(create=ContainerCreated(id="c", warnings=[]))
    mounts = [{"Type": "bind", "Source": "/h", "Target": "/x", "ReadOnly": True}, {"Type": "tmpfs", "Target": "/y"}]
    http.post(f"/v{version}/containers/create", json={"Image": "busybox", "HostConfig": {"Mounts": mounts}})
    bind, tmpfs = bus.calls[0].host_config.mounts
    assert bool(bind.bind_options and bind.bind_options.read_only_non_recursive) is top_only
    assert tmpfs.bind_options is None
