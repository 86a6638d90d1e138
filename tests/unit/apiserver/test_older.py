"""Clients of older API versions: what is adapted for them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.apiserver import older
from shared.protocol import (
    ContainerConfig,
    ContainerCreated,
    ContainerUpdated,
    CreateContainer,
    ImageInspect,
    ImageSummary,
    StopContainer,
)
from tests.unit.apiserver.test_routes import api, message

EVERYTHING = {
    "Image": "busybox",
    "Healthcheck": {"Test": ["CMD", "true"], "StartInterval": 5},
    "HostConfig": {
        "AutoRemove": True, "KernelMemoryTCP": 1 << 20, "ConsoleSize": [3, 4], "Annotations": {"a": "b"},
        "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True,
                    "BindOptions": {"NonRecursive": True, "CreateMountpoint": True}}],
    },
}  # fmt: skip


def made(version: str, **more: Any) -> CreateContainer:
    http, bus = api(create=ContainerCreated(id="f" * 64, warnings=[]))
    answer = http.post(f"/v{version}/containers/create?platform=linux", json={**EVERYTHING, **more})
    assert answer.status_code == 201, answer.data
    (job,) = bus.calls
    assert isinstance(job, CreateContainer)
    return job


def facts(job: CreateContainer) -> dict[str, Any]:
    host, (mount,) = job.host_config, job.host_config.mounts or []
    options = mount.bind_options
    assert options is not None
    assert job.config.healthcheck is not None
    return {
        "AutoRemove": host.auto_remove,
        "KernelMemoryTCP": host.kernel_memory_tcp > 0,
        "IpcMode": host.ipc_mode,
        "ConsoleSize": host.console_size,
        "Annotations": host.annotations,
        "NonRecursive": options.non_recursive,
        "CreateMountpoint": options.create_mountpoint,
        "ReadOnlyNonRecursive": options.read_only_non_recursive,
        "StartInterval": job.config.healthcheck.start_interval,
        "platform": job.platform,
    }


UPGRADE = "please upgrade your client to a newer version"
NEWEST = {
    "AutoRemove": True, "KernelMemoryTCP": True, "IpcMode": "", "ConsoleSize": [3, 4], "Annotations": {"a": "b"},
    "NonRecursive": True, "CreateMountpoint": True, "ReadOnlyNonRecursive": False, "StartInterval": 5,
    "platform": "linux",
}  # fmt: skip
OF_1_43 = {**NEWEST, "ReadOnlyNonRecursive": True, "StartInterval": 0}
OF_1_42 = {**OF_1_43, "Annotations": None}
OF_1_41 = {**OF_1_42, "ConsoleSize": None, "CreateMountpoint": False}
OF_1_40 = {**OF_1_41, "platform": ""}
OF_1_39 = {**OF_1_40, "KernelMemoryTCP": False, "IpcMode": "shareable", "NonRecursive": False}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.51", NEWEST), ("1.44", NEWEST), ("1.43", OF_1_43), ("1.42", OF_1_42), ("1.41", OF_1_41), ("1.40", OF_1_40),
        ("1.39", OF_1_39), ("1.25", OF_1_39), ("1.24", {**OF_1_39, "AutoRemove": False}),
    ],
)  # fmt: skip
def test_what_could_not_be_asked_for_is_ignored(version: str, expected: dict[str, Any]) -> None:
    assert facts(made(version)) == expected


def test_the_cgroup_namespace_was_the_hosts_with_cgroup_v1(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(older, "UNIFIED", tmp_path / "not there")
    assert made("1.40").host_config.cgroupns_mode == "host"
    assert made("1.41").host_config.cgroupns_mode == ""
    monkeypatch.setattr(older, "UNIFIED", tmp_path)
    assert made("1.40").host_config.cgroupns_mode == ""


@pytest.mark.parametrize("path", ["containers/create", "containers/web/update"])
def test_kernel_memory_is_refused_where_the_api_has_it(path: str) -> None:
    limits = {"KernelMemory": 64 << 20}
    body = {"Image": "busybox", "HostConfig": limits} if path.endswith("create") else limits
    http, bus = api(create=ContainerCreated(id="f" * 64, warnings=[]), container_update=ContainerUpdated(warnings=[]))
    answer = http.post(f"/v1.41/{path}", json=body)
    assert (answer.status_code, bus.calls) == (501, [])
    assert message(answer).startswith("KernelMemory is not implemented")
    assert http.post(f"/v1.42/{path}", json=body).status_code < 400  # a member like any that is unknown


def mount(**fields: Any) -> dict[str, Any]:
    return {"HostConfig": {"Mounts": [{"Target": "/x", **fields}]}}


@pytest.mark.parametrize(
    ("version", "body", "said"),
    [
        ("1.43", mount(Type="bind", BindOptions={"ReadOnlyForceRecursive": True}), "needs API v1.44"),
        ("1.44", mount(Type="volume", VolumeOptions={"Subpath": "x"}), "VolumeOptions.Subpath needs API v1.45"),
        ("1.45", mount(Type="tmpfs", TmpfsOptions={"Options": [["exec"]]}), "TmpfsOptions.Options needs API v1.46"),
        ("1.47", mount(Type="image", Source="x"), "needs API v1.48"),
        ("1.43", {"NetworkingConfig": {"EndpointsConfig": {"one": {}, "two": {}}}}, "endpoints: one, two"),
    ],
)  # fmt: skip
def test_what_cannot_be_ignored_is_refused(version: str, body: dict[str, Any], said: str) -> None:
    http, bus = api(create=ContainerCreated(id="f" * 64, warnings=[]))
    answer = http.post(f"/v{version}/containers/create", json={"Image": "busybox", **body})
    assert (answer.status_code, said in message(answer), bus.calls) == (400, True, [])
    newer = f"1.{int(version[2:]) + 1}"
    assert http.post(f"/v{newer}/containers/create", json={"Image": "busybox", **body}).status_code == 201


def test_a_signal_to_stop_with_came_with_1_42() -> None:
    http, bus = api(stop=None)
    for version in ("1.41", "1.42"):
        http.post(f"/v{version}/containers/x/stop?signal=INT")
    assert [job.signal for job in bus.calls if isinstance(job, StopContainer)] == ["", "INT"]


def test_images_were_shown_with_a_name_of_none_and_a_virtual_size() -> None:
    image = {"id": "sha256:1", "parent_id": "", "created": 1, "size": 7, "shared_size": -1, "labels": None}
    http, bus = api(images=lambda job: [ImageSummary(**image, repo_tags=[], repo_digests=[], containers=-1)])
    seen = {
        version: http.get(f"/v{version}/images/json?filter=x").get_json()[0] for version in ("1.40", "1.43", "1.44")
    }
    assert (seen["1.40"]["RepoTags"], seen["1.40"]["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"])
    assert (seen["1.43"]["RepoTags"], seen["1.43"]["VirtualSize"]) == ([], 7)
    assert "VirtualSize" not in seen["1.44"]
    assert [job.filters for job in bus.calls] == [{"reference": ["x"]}, {}, {}]  # type: ignore[attr-defined]


def test_an_image_told_of_the_container_that_it_was_made_of() -> None:
    fields = dict.fromkeys(("id", "parent", "comment", "created", "docker_version", "author", "architecture"), "")
    image = ImageInspect(
        **fields, variant="", os="linux", repo_tags=[], repo_digests=[], config=ContainerConfig(volumes={"/data": {}}),
        size=7, graph_driver={}, root_fs={}, metadata={},
    )  # fmt: skip
    http, _ = api(image_inspect=lambda job: msgspec.structs.replace(image))
    seen = {version: http.get(f"/v{version}/images/x/json").get_json() for version in ("1.43", "1.44", "1.45")}
    assert [shown.get("VirtualSize") for shown in seen.values()] == [7, None, None]
    assert [shown.get("Container") for shown in seen.values()] == ["", "", None]
    assert seen["1.44"]["ContainerConfig"]["Volumes"] == {"/data": {}}
    assert "ContainerConfig" not in seen["1.45"]


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1", f"client version 1 is too old. Minimum supported API version is 1.24, {UPGRADE}"),
        ("1.23.9", "client version 1.23.9 is too old."),
        ("1.51.1", "client version 1.51.1 is too new. Maximum supported API version is 1.51"),
        ("2", "client version 2 is too new."),
        ("1" * 5000, "is too new."),
        ("...", "client version ... is too old."),
    ],
)  # fmt: skip
def test_too_old_and_too_new(version: str, said: str) -> None:
    http, _ = api()
    answer = http.get(f"/v{version}/info")
    assert (answer.status_code, said in answer.text) == (400, True)
    assert answer.headers["Content-Type"] == ("application/json" if "too new" in said else "text/plain; charset=utf-8")


def test_a_version_with_more_digits_is_the_same_one() -> None:
    http, _ = api()
    assert http.get("/v1.51.0/_ping").status_code == http.get("/v01.51/_ping").status_code == 200
