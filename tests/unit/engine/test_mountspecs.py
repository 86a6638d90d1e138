"""What a bind or a mount that was asked for comes to, and what is refused, in moby's words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.mountspecs import clean, plan_bind, plan_mount, valid_mode
from shared.protocol import (
    ANONYMOUS_LABEL,
    BindOptions,
    DriverConfig,
    ImageOptions,
    InvalidArgument,
    Mount,
    MountPoint,
    NotImplementedByUs,
    TmpfsOptions,
    VolumeOptions,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v1:/x", {"type": "volume", "name": "v1", "mode": "z", "populate": True}),
        ("v1:/x:ro,nocopy", {"type": "volume", "name": "v1", "mode": "ro,nocopy", "writable": False}),
        ("/h/:/x/", {"type": "bind", "source": "/h", "propagation": "rprivate", "create_source": True}),
        ("/h:/x:ro", {"type": "bind", "source": "/h", "mode": "ro", "writable": False, "propagation": "rprivate",
                      "create_source": True}),
        ("//h/../h:/y/../x:Z,rslave,cached", {"type": "bind", "source": "/h", "mode": "Z,rslave,cached",
                                              "propagation": "rslave", "create_source": True}),
    ],
)  # fmt: skip
def test_binds(text: str, expected: dict[str, Any]) -> None:
    assert plan_bind(text, "").point == MountPoint(destination="/x", **expected)


@pytest.mark.parametrize(
    ("text", "recursive"), [("/h:/x:ro", False), ("/h:/x", None), ("/h:/x:rw", None), ("v1:/x:ro", None)]
)
def test_a_read_only_bind_may_leave_out_what_is_below(text: str, recursive: bool | None) -> None:
    assert plan_bind(text, "", non_recursive=True).point.recursive_read_only is recursive
    assert plan_bind(text, "").point.recursive_read_only is None


def test_a_destination_alone_is_an_anonymous_volume() -> None:
    planned = plan_bind("/x", "")
    assert planned.volume is not None
    assert planned.volume.labels == {ANONYMOUS_LABEL: ""}
    assert planned.point.name == planned.volume.name
    assert len(planned.point.name) == 64
    assert planned.point.anonymous
    assert plan_bind("/x", "").point.name != planned.point.name


def test_the_volume_driver_is_for_volumes_only() -> None:
    named, bind = plan_bind("v1:/x", "flocker"), plan_bind("/h:/x", "flocker")
    assert named.volume is not None
    assert (named.volume.driver, bind.volume) == ("flocker", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v1:/x:rshared", "invalid volume specification: 'v1:/x:rshared': invalid mount config for type \"volume\": "
                          "field BindOptions must not be specified"),
        ("/tmp:/x:nocopy", "invalid volume specification: '/tmp:/x:nocopy': invalid mount config for type \"bind\": "
                           "field VolumeOptions must not be specified"),
        ("v1:x", "invalid volume specification: 'v1:x': invalid mount config for type \"volume\": invalid mount path: "
                 "'x' mount path must be absolute"),
        ("v1:/", "invalid volume specification: 'v1:/': invalid mount config for type \"volume\": invalid "
                 "specification: destination can't be '/'"),
        ("v1:/x:bogus", "invalid mode: bogus"),
        ("v1:/x:ro,rw", "invalid mode: ro,rw"),
        ("v1:/x:ro,", "invalid mode: ro,"),
        ("/h:rw", "invalid volume specification: '/h:rw'"),
        (":/x", "invalid volume specification: ':/x'"),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("x:", "invalid volume specification: 'x:'"),
        ("", "invalid volume specification: ''"),
        ("v1:/x\0y", "invalid volume specification: 'v1:/x\0y': invalid mount config for type \"volume\": invalid "
                     "mount path: '/x\0y' mount path must be absolute"),
    ],
)  # fmt: skip
def test_binds_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        plan_bind(text, "")
    assert caught.value.message == message


@given(st.text(alphabet="a:/,.\0zro", max_size=12))
def test_any_text_is_a_bind_or_refused(text: str) -> None:
    try:
        point = plan_bind(text, "").point
    except InvalidArgument:
        return
    assert point.destination.startswith("/")
    assert point.destination == clean(point.destination) != "/"


def mount(kind: str, **settings: Any) -> Mount:
    return Mount(type=kind, **{"target": "/x", **settings})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (mount("volume", target=""), "field Target must not be empty"),
        (mount("volume", target="x"), "invalid mount path: 'x' mount path must be absolute"),
        (mount("volume", target="/."), "invalid specification: destination can't be '/'"),
        (mount("volume", read_only=True), "must not set ReadOnly mode when using anonymous volumes"),
        (mount("volume", bind_options=BindOptions()), "field BindOptions must not be specified"),
        (mount("volume", volume_options=VolumeOptions(subpath="a")),
         "must not set Subpath when using anonymous volumes"),
        (mount("volume", source="v", volume_options=VolumeOptions(subpath="a/../../b")),
         "subpath must be a relative path within the volume"),
        (mount("volume", source="v", volume_options=VolumeOptions(subpath="/a")),
         "subpath must be a relative path within the volume"),
        (mount("bind"), "field Source must not be empty"),
        (mount("bind", source="h"), "invalid mount path: 'h' mount path must be absolute"),
        (mount("bind", source="/h", volume_options=VolumeOptions()), "field VolumeOptions must not be specified"),
        (mount("bind", source="/h", bind_options=BindOptions(propagation="loud")), "invalid propagation mode: loud"),
        (mount("bind", source="/h", read_only=True,
               bind_options=BindOptions(read_only_non_recursive=True, read_only_force_recursive=True)),
         "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive"),
        (mount("tmpfs", source="y"), "field Source must not be specified"),
        (mount("tmpfs", bind_options=BindOptions()), "field BindOptions must not be specified"),
        (mount("tmpfs", tmpfs_options=TmpfsOptions(options=[["size", "1"]])), "invalid option: size=1"),
        (mount("image"), "field Source must not be empty"),
        (mount("image", source="busybox", bind_options=BindOptions()), "field BindOptions must not be specified"),
        (mount("image", source="busybox", image_options=ImageOptions(subpath="../x")),
         "subpath must be a relative path within the image"),
        (mount("volume", source="y", image_options=ImageOptions()), "field ImageOptions must not be specified"),
        (mount("npipe", source="y"), "mount type unknown"),
        (mount("", source="y"), "mount type unknown"),
    ],
)  # fmt: skip
def test_mounts_that_are_refused(asked: Mount, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        plan_mount(asked)
    assert caught.value.message == f'invalid mount config for type "{asked.type}": {message}'


def test_mounts_that_are_not_done_are_named() -> None:
    with pytest.raises(NotImplementedByUs, match="cluster"):
        plan_mount(mount("cluster", source="busybox"))


def test_an_image_is_never_writable() -> None:
    planned = plan_mount(mount("image", source="busybox", image_options=ImageOptions(subpath="etc")))
    assert planned.volume is None
    assert planned.point == MountPoint(
        type="image", destination="/x", driver="image", image="busybox", writable=False, subpath="etc"
    )


def test_a_volume_with_everything() -> None:
    config = DriverConfig(name="local", options={"type": "tmpfs", "device": "tmpfs"})
    options = VolumeOptions(no_copy=True, labels={"a": "b"}, driver_config=config, subpath="d/e")
    planned = plan_mount(mount("volume", source="v", read_only=True, volume_options=options))
    assert planned.point == MountPoint(
        type="volume", destination="/x", name="v", mode="z", writable=False, subpath="d/e"
    )  # fmt: skip
    assert planned.volume is not None
    assert (planned.volume.name, planned.volume.driver, planned.volume.labels) == ("v", "local", {"a": "b"})
    assert planned.volume.driver_opts == {"type": "tmpfs", "device": "tmpfs"}


def test_a_bind_with_everything() -> None:
    options = BindOptions(propagation="slave", non_recursive=True, create_mountpoint=True, read_only_non_recursive=True)
    point = plan_mount(mount("bind", source="/h", read_only=True, bind_options=options)).point
    assert point == MountPoint(
        type="bind", destination="/x", source="/h", writable=False, propagation="slave", create_source=True,
        recursive=False, recursive_read_only=False,
    )  # fmt: skip


def test_a_tmpfs_with_everything() -> None:
    options = TmpfsOptions(size_bytes=3 << 20, mode=0o1770, options=[["exec"]])
    point = plan_mount(mount("tmpfs", read_only=True, tmpfs_options=options)).point
    assert point.options == ["mode=1770", "size=3m", "exec"]
    assert not point.writable
    assert plan_mount(mount("tmpfs", tmpfs_options=TmpfsOptions(size_bytes=1000))).point.options == ["size=1000"]


def test_modes() -> None:
    assert all(map(valid_mode, ["", "ro", "rw,z", "Z,ro,rprivate,nocopy,delegated"]))
    assert not any(map(valid_mode, [",", "ro,ro", "z,Z", "shared,slave", "RO", "ro "]))
