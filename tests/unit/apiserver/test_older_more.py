"""Clients of older API versions: what they are shown of engine, images and events; what else they cannot ask for."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from services.apiserver import older
from services.apiserver.routes import events
from shared.protocol import (
    ContainerConfig,
    ContainerCreated,
    ContainerExit,
    ContainerInspect,
    CreateContainer,
    CreateNetwork,
    DiskUsage,
    EndpointSettings,
    Event,
    EventActor,
    ImageInspect,
    ImageSummary,
    ListNetworks,
    MeasureDisk,
    NetworkCreated,
    Output,
    PullImage,
    PushImage,
    WaitContainer,
)
from tests.unit.apiserver.test_routes import api

FIELDS = ("id", "parent", "comment", "created", "docker_version", "author", "architecture", "variant", "os")
IMAGE = ImageInspect(
    **dict.fromkeys(FIELDS, ""), repo_tags=[], repo_digests=[], config=ContainerConfig(cmd=["sh"]), size=7,
    graph_driver={}, root_fs={}, metadata={},
)  # fmt: skip
SUMMARY = {
    "id": "sha256:1",
    "parent_id": "",
    "created": 1,
    "size": 7,
    "shared_size": 0,
    "labels": None,
    "containers": 2,
}


def engine() -> dict[str, Any]:
    return {
        "SecurityOptions": ["name=seccomp,profile=builtin"], "RegistryConfig": {},
        "FirewallBackend": {"Driver": "nftables"},
        "ContainerdCommit": {"ID": ""}, "RuncCommit": {"ID": "1.2"}, "InitCommit": {"ID": ""},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "security", "registry", "runc", "filtered"),
    [
        ("1.24", ["seccomp"], 2, "1.2", False),
        ("1.46", ["name=seccomp,profile=builtin"], 2, "1.2", False),
        ("1.47", ["name=seccomp,profile=builtin"], 0, "1.2", False),
        ("1.49", ["name=seccomp,profile=builtin"], 0, None, False),
        ("1.50", ["name=seccomp,profile=builtin"], 0, None, None),
    ],
)
def test_info(version: str, security: list[str], registry: int, runc: str | None, filtered: bool | None) -> None:
    http, _ = api(info=lambda job: engine())
    shown = http.get(f"/v{version}/info").get_json()
    assert shown["SecurityOptions"] == security
    assert len(shown["RegistryConfig"]) == registry
    assert shown["RuncCommit"].get("Expected") == runc
    assert ("FirewallBackend" in shown) == (runc is None)
    assert shown.get("BridgeNfIptables") is filtered


def test_the_config_of_an_image_was_that_of_a_container() -> None:
    http, _ = api(image_inspect=lambda job: msgspec.structs.replace(IMAGE))
    older_config, newer = (http.get(f"/v{version}/images/x/json").get_json()["Config"] for version in ("1.49", "1.50"))
    assert older_config["Cmd"] == newer["Cmd"] == ["sh"]
    optional = {"MacAddress", "NetworkDisabled", "StopTimeout"}
    assert set(older.NOT_OF_IMAGES) - optional <= set(older_config)
    assert not set(older.NOT_OF_IMAGES) & set(newer)


def test_the_containers_of_an_image_are_counted_since_1_51() -> None:
    http, _ = api(images=lambda job: [ImageSummary(**SUMMARY, repo_tags=["x:1"], repo_digests=[])])
    assert [http.get(f"/v{version}/images/json").get_json()[0]["Containers"] for version in ("1.50", "1.51")] == [-1, 2]


def test_types_of_disk_usage_came_with_1_42_and_a_virtual_size_went_with_1_44() -> None:
    image = ImageSummary(**SUMMARY, repo_tags=["x:1"], repo_digests=[])
    http, bus = api(disk_usage=lambda job: DiskUsage(images=[msgspec.structs.replace(image)]))
    shown = [http.get(f"/v{version}/system/df?type=image").get_json() for version in ("1.41", "1.43", "1.44")]
    assert [job.types for job in bus.calls if isinstance(job, MeasureDisk)] == [[], ["image"], ["image"]]
    assert [one["Images"][0].get("VirtualSize") for one in shown] == [7, 7, None]


@pytest.mark.parametrize(("version", "size"), [("1.24", 12), ("1.41", 12), ("1.42", None)])
def test_what_the_builder_keeps_was_told_in_one_number(version: str, size: int | None) -> None:
    caches = [{"ID": "a", "Size": 5}, {"ID": "b", "Size": 7}]
    http, _ = api(disk_usage=lambda job: DiskUsage(build_cache=caches))
    assert http.get(f"/v{version}/system/df").get_json().get("BuilderSize") == size


@pytest.mark.parametrize(
    ("version", "created", "shown"),
    [
        ("1.43", "", "0001-01-01T00:00:00Z"), ("1.44", "", None),
        ("1.43", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("1.44", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
    ],
)  # fmt: skip
def test_an_image_that_does_not_say_when_it_was_made(version: str, created: str, shown: str | None) -> None:
    http, _ = api(image_inspect=lambda job: msgspec.structs.replace(IMAGE, created=created))
    assert http.get(f"/v{version}/images/x/json").get_json().get("Created") == shown


@pytest.mark.parametrize(("version", "detailed"), [("1.24", True), ("1.27", True), ("1.28", False), ("1.51", False)])
def test_the_list_of_networks_told_of_their_containers(version: str, detailed: bool) -> None:
    http, bus = api(networks=[])
    assert http.get(f"/v{version}/networks").status_code == 200
    assert bus.calls == [ListNetworks(detailed=detailed)]


@pytest.mark.parametrize(("version", "told"), [("1.29", ["stream"]), ("1.30", ["aux", "stream"])])
def test_what_a_build_made_is_told_apart_since_1_30(version: str, told: list[str]) -> None:
    http, bus = api()
    bus.call = says(bus.call, {"aux": {"ID": "sha256:1"}}, {"stream": "Successfully built 1"})  # type: ignore[method-assign]
    lines = http.post(f"/v{version}/build", data=b"").data.splitlines()
    assert [name for line in lines for name in json.loads(line)] == told


def says(call: Any, *messages: dict[str, Any]) -> Any:
    def saying(job: Any, *, on_status: Any = None, **options: Any) -> Any:
        for message in messages:
            on_status(Output(text=json.dumps(message), stream="progress"))
        return call(job, **options)

    return saying


def test_that_an_image_was_made_is_told_since_1_46() -> None:
    made = Event(type="image", action="create", actor=EventActor(id="x", attributes={}), time=1, time_nano=1, seq=1)
    seen = []
    for version in ("1.45", "1.46"):
        http, _ = api(events=lambda job: [made] if job.after < 1 and not job.wait else [])
        seen.append(http.get(f"/v{version}/events?since=0&until=1").data)
    assert (seen[0], b'"create"' in seen[1]) == (b"", True)
    assert events.WAIT > 0


def calls(path: str, body: dict[str, Any] | None = None, **answers: Any) -> Any:
    http, bus = api(**answers)
    http.post(path, json=body)
    return bus.calls[0]


def test_conditions_of_a_wait_came_with_1_30() -> None:
    for version, condition in (("1.29", "not-running"), ("1.30", "removed")):
        job = calls(f"/v{version}/containers/x/wait?condition=removed", wait=ContainerExit(status_code=0))
        assert isinstance(job, WaitContainer)
        assert job.condition == condition


def test_networks_had_no_say_in_ipv4_before_1_48() -> None:
    made = NetworkCreated(id="f" * 64, warning="")
    for version, said in (("1.47", None), ("1.48", False)):
        job = calls(f"/v{version}/networks/create", {"Name": "n", "EnableIPv4": False}, network_create=made)
        assert isinstance(job, CreateNetwork)
        assert job.enable_ipv4 is said


@pytest.mark.parametrize(
    ("path", "name", "since", "kind"),
    [
        ("/images/create?fromImage=x&platform=linux/arm64", "pull", 32, PullImage),
        ("/images/x/push?platform=linux/arm64", "push", 46, PushImage),
    ],
)
def test_platforms_of_transfers(path: str, name: str, since: int, kind: type[Any]) -> None:
    for version, platform in ((since - 1, ""), (since, "linux/arm64")):
        job = calls(f"/v1.{version}{path}", **{name: None})
        assert isinstance(job, kind)
        assert job.platform == platform


def asked(version: str, **body: Any) -> CreateContainer:
    made = ContainerCreated(id="f" * 64, warnings=[])
    job = calls(f"/v{version}/containers/create", {"Image": "busybox", **body}, create=made)
    assert isinstance(job, CreateContainer)
    return job


def test_what_endpoints_could_not_be_asked_for() -> None:
    networking = {"EndpointsConfig": {"one": {"MacAddress": "02:42:ac:11:00:02", "GwPriority": 7}, "two": None}}
    single = {"EndpointsConfig": {"one": networking["EndpointsConfig"]["one"]}}
    seen = {}
    for version in ("1.43", "1.47", "1.48"):
        job = asked(version, NetworkingConfig=single if version == "1.43" else networking)
        assert job.networking_config is not None
        endpoint = (job.networking_config.endpoints_config or {})["one"]
        assert endpoint is not None
        seen[version] = (endpoint.mac_address, endpoint.gw_priority)
    assert seen == {"1.43": ("", 0), "1.47": ("02:42:ac:11:00:02", 0), "1.48": ("02:42:ac:11:00:02", 7)}


def test_binds_that_are_read_only_left_out_what_is_below_before_1_44() -> None:
    assert [asked(version).read_only_non_recursive for version in ("1.24", "1.43", "1.44")] == [True, True, False]


VOLUME = {"VolumeDriver": "local", "Mounts": [{"Type": "volume", "Target": "/x"}]}
NAMED = {**VOLUME, "Mounts": [{**VOLUME["Mounts"][0], "VolumeOptions": {"DriverConfig": {"Name": "x"}}}]}  # type: ignore[dict-item]
MAC = {"MacAddress": "02:42:ac:11:00:02"}


@pytest.mark.parametrize(
    ("version", "body", "said"),
    [
        ("1.47", {"HostConfig": VOLUME}, []),
        ("1.48", {"HostConfig": VOLUME}, [older.VOLUME_DRIVER_IGNORED]),
        ("1.48", {"HostConfig": NAMED}, []),
        ("1.48", {"HostConfig": {"VolumeDriver": "local"}}, []),
        ("1.43", MAC, []),
        ("1.44", MAC, [older.MAC_ADDRESS_DEPRECATED]),
    ],
)
def test_what_newer_clients_leave_to_the_daemon_to_say(version: str, body: dict[str, Any], said: list[str]) -> None:
    http, _ = api(create=lambda job: ContainerCreated(id="f" * 64, warnings=["first"]))
    answer = http.post(f"/v{version}/containers/create", json={"Image": "busybox", **body})
    assert answer.get_json()["Warnings"] == ["first", *said]


@pytest.mark.parametrize(
    ("version", "mode", "status"),
    [
        ("1.43", "host", 400), ("1.43", "none", 400), ("1.43", "container:x", 400), ("1.43", "bridge", 201),
        ("1.43", "app", 201), ("1.43", "default", 201), ("1.44", "host", 201),
    ],
)  # fmt: skip
def test_a_mac_address_wanted_a_network_before_1_44(version: str, mode: str, status: int) -> None:
    http, _ = api(create=ContainerCreated(id="f" * 64, warnings=[]))
    body = {"Image": "busybox", **MAC, "HostConfig": {"NetworkMode": mode}}
    assert http.post(f"/v{version}/containers/create", json=body).status_code == status


def test_options_of_other_types_of_mounts_were_not_looked_at() -> None:
    mounts = [{"Type": "bind", "Source": "/a", "Target": "/b", "VolumeOptions": {"NoCopy": True}, "TmpfsOptions": {}}]
    for version, kept in (("1.41", False), ("1.42", True)):
        (mount,) = asked(version, HostConfig={"Mounts": mounts}).host_config.mounts or []
        assert (mount.volume_options is not None, mount.tmpfs_options is not None) == (kept, kept)


@pytest.mark.parametrize(
    ("version", "aliases"),
    [("1.44", {"bridge": None, "app": ["db", "cccccccccccc", "host"]}), ("1.45", {"bridge": None, "app": ["db"]})],
)
def test_what_a_container_is_called_in_networks_that_users_made(version: str, aliases: dict[str, Any]) -> None:
    """moby never told of other names in the default one, where none is resolved."""
    networks = {"bridge": EndpointSettings(), "app": EndpointSettings(aliases=["db"])}
    shown = msgspec.convert(
        {
            **dict.fromkeys(("Created", "Path", "Image", "Name", "Driver", "Platform", "LogPath"), ""),
            **dict.fromkeys(("ResolvConfPath", "HostnamePath", "HostsPath", "MountLabel", "ProcessLabel"), ""),
            "Id": "c" * 64, "Args": [], "RestartCount": 0, "AppArmorProfile": "", "ExecIDs": None, "HostConfig": {},
            "GraphDriver": {}, "Mounts": [], "Config": {"Hostname": "host"}, "State": {},
            "NetworkSettings": {"Networks": msgspec.to_builtins(networks)},
        },
        ContainerInspect,
    )  # fmt: skip
    http, _ = api(container_inspect=lambda job: shown)
    found = http.get(f"/v{version}/containers/x/json").get_json()["NetworkSettings"]["Networks"]
    assert {name: network["Aliases"] for name, network in found.items()} == aliases
