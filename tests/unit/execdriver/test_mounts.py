"""Mounts as the runtime is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.execdriver import mounts as module
from services.execdriver.mounts import mounts
from shared.protocol import ContainerConfig, HostConfig, Interface, InvalidArgument, MountPoint, RuntimeStart


def made(*points: MountPoint, rootfs: str = "/rootfs", **host: Any) -> list[dict[str, Any]]:
    """Return what is made over and above the mounts of every container."""
    job = RuntimeStart(
        container="c", generation=1, name="web", rootfs=rootfs, directory="/state", args=["sh"],
        config=ContainerConfig(), host_config=HostConfig(shm_size=1, **host), interface=Interface(mode="none"),
        mounts=list(points),
    )  # fmt: skip
    return mounts(job)[7:]


def options(point: MountPoint) -> list[str]:
    found: list[str] = made(point)[0]["options"]
    return found


def volume(destination: str, **settings: Any) -> MountPoint:
    return MountPoint(type="volume", source="/", destination=destination, **settings)


def test_what_goes_onto_another_mount_is_made_after_it() -> None:
    found = [mount["destination"] for mount in made(volume("/a/b/c"), volume("/etc"), volume("/a"), tmpfs={"/a/b": ""})]
    assert found == ["/etc", "/a", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/a/b", "/a/b/c"]


def test_what_is_asked_for_takes_the_place_of_what_all_have() -> None:
    found = made(volume("/etc/hosts"), volume("/dev/shm"))
    assert [mount["source"] for mount in found if mount["destination"] in ("/etc/hosts", "/dev/shm")] == ["/"] * 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["rbind", "rprivate"]),
        ({"writable": False}, ["rbind", "rprivate", "rro"]),
        ({"writable": False, "recursive_read_only": False}, ["rbind", "rprivate", "ro"]),
        ({"writable": False, "recursive": False}, ["bind", "private", "ro"]),
        ({"recursive": False}, ["bind", "private"]),
    ],
)
def test_options_of_a_bind(settings: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "kernel_version", lambda: (5, 12))
    assert options(MountPoint(type="bind", source="/", destination="/x", **settings)) == expected


def test_an_old_kernel_makes_the_top_read_only_or_says_that_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "kernel_version", lambda: (5, 10))
    assert options(volume("/x", writable=False))[-1] == "ro"
    with pytest.raises(InvalidArgument, match=r"5\.12"):
        options(volume("/x", writable=False, recursive_read_only=True))


def test_the_last_of_two_contrary_options_holds() -> None:
    assert made(tmpfs={"/x": "exec,size=1m,rw,ro"})[0]["options"] == ["exec", "nosuid", "nodev", "size=1m", "ro"]
    point = MountPoint(type="tmpfs", destination="/x", writable=False, options=["mode=700", "exec"])
    assert options(point) == ["exec", "nosuid", "nodev", "ro", "mode=700"]


def test_a_tmpfs_has_the_mode_of_the_directory_below_it(tmp_path: Path) -> None:
    """As with runc (rootfs_linux.go), whatever the runtime: /run is not for all to write because a tmpfs is on it."""
    for name, mode in (("run", 0o755), ("tmp", 0o1777), ("own", 0o700), ("crun", 0o1755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "out").symlink_to("/etc/ssl")  # the host's is not looked at
    places = {"/run": "", "/tmp": "size=1m", "/own": "mode=711", "/new": "", "/crun": "", "/var/run": "", "/out": ""}
    point = MountPoint(type="tmpfs", destination="/own/x")
    found = {mount["destination"]: mount["options"] for mount in made(point, rootfs=str(tmp_path), tmpfs=places)}
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o1777  # or the next start would have what the runtime makes
    modes = {place: [word for word in found[place] if word.startswith("mode=")] for place in (*places, "/own/x")}
    assert modes == {
        "/run": ["mode=0755"], "/tmp": ["mode=1777"], "/own": ["mode=711"], "/new": ["mode=1777"],
        "/var/run": ["mode=0755"], "/out": [], "/crun": [], "/own/x": [],
    }  # fmt: skip


def test_what_a_mount_lies_on_is_looked_at_only_where_nothing_else_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True, mode=0o700)
    found = made(volume("/a"), rootfs=str(tmp_path), tmpfs={"/a/b": ""})
    assert found[-1] == {
        "destination": "/a/b", "type": "tmpfs", "source": "tmpfs", "options": ["noexec", "nosuid", "nodev"],
    }  # fmt: skip


def test_the_place_of_a_tmpfs_is_taken_clean() -> None:
    found = [mount["destination"] for mount in made(tmpfs={"/x/../etc": "", "//y/": ""})]
    assert found == ["/etc", "/y", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"]


def test_a_missing_source_is_made_only_where_that_is_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "a" / "b"
    with pytest.raises(InvalidArgument, match=f"bind source path does not exist: {source}"):
        made(MountPoint(type="bind", source=str(source), destination="/x"))
    made(MountPoint(type="bind", source=str(source), destination="/x", create_source=True))
    assert source.stat().st_mode & 0o777 == source.parent.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["file/below", "dangling"])
def test_a_source_that_cannot_be_made_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(InvalidArgument, match=f"error while creating mount source path '{tmp_path}/{name}'"):
        made(MountPoint(type="bind", source=f"{tmp_path}/{name}", destination="/x", create_source=True))
