"""Volumes in the engine, with stand-ins for the drivers: records, references, events, and crashes between two steps."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import zmq

from shared.bus.sockets import dealer, engine_endpoint
from shared.protocol import (
    ANONYMOUS_LABEL,
    AwaitService,
    Conflict,
    ContainerConfig,
    CreateContainer,
    CreateVolume,
    DeleteVolume,
    DockyardError,
    Frame,
    Header,
    HostConfig,
    InspectContainer,
    InspectVolume,
    InvalidArgument,
    Job,
    Kind,
    ListContainers,
    ListVolumes,
    MakeVolume,
    Mount,
    MountVolume,
    NotFound,
    NotImplementedByUs,
    PopulateVolume,
    PruneVolumes,
    ReadEvents,
    ReleaseInterface,
    RemoveContainer,
    RuntimeStart,
    StartContainer,
    StopContainer,
    UnmakeVolume,
    UnmountVolume,
    VolumeOptions,
    encode_body,
    job_name,
    new_id,
)

TMPFS = {"type": "tmpfs", "device": "tmpfs"}


def create(stack: Any, name: str = "web", volumes: dict[str, Any] | None = None, **host: Any) -> str:
    config = ContainerConfig(image="busybox", volumes=volumes)
    return str(stack.client.call(CreateContainer(name=name, config=config, host_config=HostConfig(**host))).id)


def volume(stack: Any, name: str = "data", **settings: Any) -> Any:
    return stack.client.call(CreateVolume(name=name, **settings))


def names(stack: Any, **filters: list[str]) -> list[str]:
    return [found.name for found in stack.client.call(ListVolumes(filters=filters)).volumes]


def mounts(stack: Any, ref: str = "web") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.client.call(InspectContainer(container=ref)).mounts
    return found


def events(stack: Any) -> list[tuple[str, str]]:
    return [(e.action, e.actor.id) for e in stack.client.call(ReadEvents(after=0)) if e.type == "volume"]


def calls(stack: Any, kind: type[Any]) -> list[Any]:
    return [job for job in stack.world.calls if isinstance(job, kind)]


def fail(error: Exception) -> Callable[[Any], Any]:
    def handler(job: Any) -> Any:
        raise error

    return handler


# -- the noun itself


def test_create_inspect_list_delete(stack: Any) -> None:
    made = volume(stack, labels={"a": "b"})
    assert (made.name, made.driver, made.mountpoint, made.scope) == ("data", "local", "/volumes/data/_data", "local")
    assert made.usage_data is msgspec.UNSET
    assert stack.client.call(InspectVolume(volume="data")) == made
    assert names(stack) == ["data"]
    stack.client.call(DeleteVolume(volume="data"))
    assert not names(stack)
    assert not stack.world.volumes
    with pytest.raises(NotFound, match="get data: no such volume"):
        stack.client.call(DeleteVolume(volume="data"))
    stack.client.call(DeleteVolume(volume="data", force=True))
    assert events(stack) == [("create", "data"), ("destroy", "data")]


def test_create_again_is_the_same_unless_it_differs(stack: Any) -> None:
    first = volume(stack, driver_opts=TMPFS, labels={"a": "b"})
    for settings in ({}, {"driver": "local"}, {"driver_opts": TMPFS}, {"labels": {"other": ""}}):
        assert volume(stack, **settings) == first
    with pytest.raises(Conflict, match="create data: driver 'local' already has volume 'data': volume name must be un"):
        volume(stack, driver="other")
    with pytest.raises(Conflict, match="'data' with other options"):
        volume(stack, driver_opts={**TMPFS, "o": "size=1m"})
    assert len(calls(stack, MakeVolume)) == 1


def test_a_volume_without_a_name_is_anonymous(stack: Any) -> None:
    made = volume(stack, "")
    assert len(made.name) == 64
    assert made.labels == {ANONYMOUS_LABEL: ""}


def test_bad_names_are_refused_before_anything_is_made(stack: Any) -> None:
    for name in ("a", "a b", "../x", "/x", "-x", "x/y", "é"):
        with pytest.raises(InvalidArgument, match=f"create {name}: "):
            volume(stack, name)
    assert not calls(stack, MakeVolume)


def test_cluster_volumes_are_refused_by_name(stack: Any) -> None:
    with pytest.raises(NotImplementedByUs, match="cluster volumes"):
        volume(stack, cluster_volume_spec={})


def test_what_the_driver_refuses_leaves_nothing(stack: Any) -> None:
    stack.world.script["volumedriver_create"] = fail(NotFound("create data: error looking up volume plugin x"))
    with pytest.raises(NotFound, match="plugin x"):
        volume(stack, driver="x")
    with pytest.raises(InvalidArgument, match="plugin x"):  # at 404 the CLI would pull the image
        create(stack, binds=["data:/x"], volume_driver="x")
    stack.restart_engine()
    assert not names(stack)
    assert not stack.client.call(ListContainers(all=True))


def test_filters(stack: Any) -> None:
    volume(stack, "one", labels={"a": "b"})
    volume(stack, "two")
    create(stack, binds=["two:/x"])
    assert names(stack, name=["^o"]) == names(stack, label=["a"]) == names(stack, label=["a=b"]) == ["one"]
    assert names(stack, dangling=["true"]) == ["one"]
    assert names(stack, dangling=["0"]) == ["two"]
    assert names(stack, driver=["local"]) == ["one", "two"]
    assert not names(stack, driver=["other"])
    for filters in ({"dangling": ["maybe"]}, {"dangling": ["1", "0"]}, {"colour": ["blue"]}):
        with pytest.raises(InvalidArgument, match="invalid filter"):
            names(stack, **filters)
    usage = {v.name: v.usage_data for v in stack.client.call(ListVolumes(usage=True)).volumes}
    assert {name: (data.size, data.ref_count) for name, data in usage.items()} == {"one": (100, 0), "two": (100, 1)}


def test_prune_takes_anonymous_ones_that_nobody_has_and_all_if_asked(stack: Any) -> None:
    anonymous = volume(stack, "").name
    volume(stack, "named")
    volume(stack, "labelled", labels={"keep": ""})
    volume(stack, "elsewhere", driver_opts=TMPFS)
    create(stack, volumes={"/x": {}})
    pruned = stack.client.call(PruneVolumes())
    assert (pruned.volumes_deleted, pruned.space_reclaimed) == ([anonymous], 100)
    pruned = stack.client.call(PruneVolumes(filters={"all": ["1"], "label!": ["keep"]}))
    assert pruned.volumes_deleted == ["named"]
    assert len(names(stack)) == 3
    assert ("prune", "") in events(stack)
    with pytest.raises(InvalidArgument, match="until"):
        stack.client.call(PruneVolumes(filters={"until": ["1h"]}))


# -- containers


def test_a_named_volume_is_made_filled_mounted_and_kept(stack: Any) -> None:
    container = create(stack, binds=["data:/x:ro"])
    assert names(stack) == ["data"]
    (populate,) = calls(stack, PopulateVolume)
    assert (populate.container, populate.destination) == (container, "/x")
    assert not stack.world.mounted_volumes
    assert mounts(stack) == [
        {"Type": "volume", "Name": "data", "Source": "/volumes/data/_data", "Destination": "/x", "Driver": "local",
         "Mode": "ro", "RW": False, "Propagation": ""}
    ]  # fmt: skip
    with pytest.raises(Conflict, match=rf"remove data: volume is in use - \[{container}\]"):
        stack.client.call(DeleteVolume(volume="data", force=True))
    stack.client.call(StartContainer(container="web"))
    assert stack.world.mounted_volumes == {"data"}
    (start,) = calls(stack, RuntimeStart)
    assert start.mounts[0].source == "/volumes/data/_data/"
    stack.client.call(RemoveContainer(container="web", force=True, volumes=True))
    assert not stack.world.mounted_volumes
    assert names(stack) == ["data"]
    told = [("create", "data"), ("mount", "data"), ("unmount", "data")]
    assert events(stack) == told


def test_an_anonymous_volume_comes_and_goes_with_its_container(stack: Any) -> None:
    create(stack, volumes={"/x": {}, "relative": {}}, binds=["/y"], mounts=[Mount(type="volume", target="/z")])
    shown = {mount["Destination"]: mount for mount in mounts(stack)}
    assert {destination: mount["Mode"] for destination, mount in shown.items()} == {
        "/x": "", "/relative": "", "/y": "z", "/z": "z",
    }  # fmt: skip
    assert set(names(stack, label=[ANONYMOUS_LABEL])) == {mount["Name"] for mount in shown.values()}
    stack.client.call(RemoveContainer(container="web", volumes=True))
    assert not names(stack)
    assert not stack.world.volumes


def test_without_being_asked_a_removal_leaves_them(stack: Any) -> None:
    create(stack, volumes={"/x": {}})
    stack.client.call(RemoveContainer(container="web"))
    assert len(names(stack, dangling=["1"])) == 1


def test_auto_removal_takes_them_along(stack: Any) -> None:
    container = create(stack, volumes={"/x": {}}, binds=["data:/d"], auto_remove=True)
    stack.client.call(StartContainer(container="web"))
    stack.world.exit(container, 0)
    wait_for(lambda: names(stack) == ["data"] and not stack.client.call(ListContainers(all=True)))
    assert stack.world.volumes == {"data"}


def test_a_volume_that_another_container_has_stays(stack: Any) -> None:
    create(stack, "first", volumes={"/x": {}})
    create(stack, "second", volumes_from=["first:ro"])
    (shared,) = names(stack)
    assert [(m["Name"], m["Destination"], m["RW"], m["Mode"]) for m in mounts(stack, "second")] == [
        (shared, "/x", False, "")
    ]
    stack.client.call(RemoveContainer(container="first", volumes=True))
    assert names(stack) == [shared]
    stack.client.call(RemoveContainer(container="second", volumes=True))
    assert not names(stack)


def test_who_wins_a_destination(stack: Any) -> None:
    create(stack, "base", binds=["base:/a", "/etc:/b", "other:/c"], tmpfs={"/t": ""})
    create(stack, volumes={"/a": {}, "/b": {}, "/t": {}, "/d": {}}, volumes_from=["base"], binds=["mine:/a"],
           tmpfs={"/t": ""})  # fmt: skip
    shown = {mount["Destination"]: mount.get("Name", mount["Source"]) for mount in mounts(stack)}
    assert {key: shown[key] for key in "/a /b /c".split()} == {"/a": "mine", "/b": "/etc", "/c": "other"}
    assert sorted(shown) == ["/a", "/b", "/c", "/d"]
    for host in (
        {"binds": ["mine:/x", "/etc:/x/"]},
        {"binds": ["mine:/x"], "tmpfs": {"/x": ""}},
        {"binds": ["mine:/x"], "mounts": [Mount(type="tmpfs", target="/x")]},
    ):
        with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
            create(stack, "other", **host)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"volumes_from": ["nobody"]}, "No such container: nobody"),
    ({"volumes_from": ["web:loud"]}, "invalid mode: loud"),
    ({"volumes_from": ["web:nocopy"]}, "invalid mode: nocopy"),
    ({"volumes_from": [""]}, "cannot be an empty string"),
    ({"binds": ["no/name:/x"]}, "includes invalid characters for a local volume name"),
    ({"mounts": [Mount(type="bind", source="/no/such", target="/x")]}, "bind source path does not exist: /no/such"),
    ({"tmpfs": {"x": ""}}, "mount path must be absolute"),
]


def test_what_is_refused_leaves_no_volume(stack: Any) -> None:
    for host, text in REFUSED:
        with pytest.raises(InvalidArgument) as caught:
            create(stack, volumes={"/v": {}}, **host)
        assert text in caught.value.message
    assert not calls(stack, MakeVolume)


def test_nocopy_subpath_and_the_filter_of_ps(stack: Any) -> None:
    asked = Mount(type="volume", source="data", target="/x", volume_options=VolumeOptions(no_copy=True, subpath="d/e"))
    create(stack, mounts=[asked])
    assert not calls(stack, PopulateVolume)
    stack.client.call(StartContainer(container="web"))
    (mount,) = calls(stack, MountVolume)
    assert mount.subpaths == ["d/e"]
    assert calls(stack, RuntimeStart)[0].mounts[0].source == "/volumes/data/_data/d/e"
    for value, found in (("data", 1), ("/x", 1), ("dat", 0)):
        assert len(stack.client.call(ListContainers(all=True, filters={"volume": [value]}))) == found
    shown = json.loads(msgspec.json.encode(stack.client.call(InspectContainer(container="web")).host_config.mounts))
    assert shown == [{"Type": "volume", "Source": "data", "Target": "/x",
                      "VolumeOptions": {"NoCopy": True, "Subpath": "d/e"}}]  # fmt: skip


def test_two_that_end_together_do_not_each_take_the_other_for_one_that_stays(stack: Any) -> None:
    containers = [create(stack, name, binds=["data:/x"]) for name in ("one", "two")]
    before = len(calls(stack, UnmountVolume))

    def release(job: ReleaseInterface) -> None:
        wait_for(lambda: len(calls(stack, UnmountVolume)) == before + 2)  # so long neither has given all back

    stack.world.script["release_interface"] = release
    for container in containers:
        stack.client.call(StartContainer(container=container))
    for container in containers:
        stack.world.exit(container, 0)
    wait_for(lambda: not stack.world.mounted_volumes)
    assert [job.last for job in calls(stack, UnmountVolume)][-2:] == [False, True]


def test_a_volume_is_unmounted_after_its_last_user(stack: Any) -> None:
    for name in ("one", "two"):
        create(stack, name, binds=["data:/x"])
        stack.client.call(StartContainer(container=name))
    stack.client.call(StopContainer(container="one"))
    assert stack.world.mounted_volumes == {"data"}
    stack.client.call(StopContainer(container="two"))
    wait_for(lambda: not stack.world.mounted_volumes)
    assert [job.last for job in calls(stack, UnmountVolume)][-2:] == [False, True]


def test_a_failed_create_takes_back_what_it_named(stack: Any) -> None:
    stack.world.script["volumedriver_populate"] = fail(InvalidArgument("cannot mount volume over existing file"))
    with pytest.raises(InvalidArgument, match="existing file"):
        create(stack, volumes={"/x": {}}, binds=["data:/y"])
    wait_for(lambda: stack.world.volumes == {"data"})
    assert names(stack) == ["data"]
    assert not stack.world.mounted_volumes


def test_a_failed_start_gives_its_volumes_back(stack: Any) -> None:
    create(stack, binds=["data:/x"])
    stack.world.script["runtime_start"] = fail(DockyardError("no"))
    with pytest.raises(DockyardError, match="no"):
        stack.client.call(StartContainer(container="web"))
    assert not stack.world.mounted_volumes
    assert [action for action, _ in events(stack)] == ["create", "mount", "unmount"]


# -- crashes


def crash_at(
    stack: Any, step: str, job: Job[Any], effect: Callable[[Any, Any], None] = lambda world, job: None
) -> None:
    """Have the engine end while it waits for the answer to ``step``, of which it never hears, and start anew."""
    reached, ended = threading.Event(), threading.Event()

    def handler(asked: Any) -> None:
        effect(stack.world, asked)
        reached.set()
        ended.wait(10)

    stack.world.script[step] = handler
    with dealer(zmq.Context.instance(), engine_endpoint(stack.config.run)) as caller:  # who does not ask again
        header = Header(id=new_id(), name=job_name(job))
        caller.send_multipart(Frame(Kind.JOB, header, encode_body(job)).parts())
        assert reached.wait(5)
        stack.stop_engine()
    stack.world.script.clear()
    ended.set()
    stack.start_engine()
    stack.client.call(AwaitService(service="engine"))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def note_made(world: Any, job: Any) -> None:
    world.volumes.add(job.name)


@pytest.mark.parametrize(("step", "effect"), [("volumedriver_create", note_made), ("volumedriver_populate", None)])
def test_an_engine_that_dies_in_a_create_leaves_no_anonymous_volume(stack: Any, step: str, effect: Any) -> None:
    config = ContainerConfig(image="busybox", volumes={"/x": {}})
    crash_at(stack, step, CreateContainer(name="web", config=config), effect or (lambda world, job: None))
    wait_for(lambda: not stack.world.volumes)
    assert not names(stack)
    assert not stack.world.mounted_volumes
    assert not stack.client.call(ListContainers(all=True))


def test_an_engine_that_dies_in_the_creation_of_a_named_volume_completes_it(stack: Any) -> None:
    crash_at(stack, "volumedriver_create", CreateVolume(name="data"))
    wait_for(lambda: names(stack) == ["data"])
    assert stack.world.volumes == {"data"}


def test_an_engine_that_dies_in_a_removal_goes_on_with_it(stack: Any) -> None:
    volume(stack)
    crash_at(stack, "volumedriver_remove", DeleteVolume(volume="data"))
    wait_for(lambda: not names(stack))
    assert not stack.world.volumes
    assert events(stack) == [("create", "data"), ("destroy", "data")]


def test_an_engine_that_dies_in_rm_v_remembers_the_v(stack: Any) -> None:
    create(stack, volumes={"/x": {}})
    crash_at(stack, "layer_remove", RemoveContainer(container="web", volumes=True))
    wait_for(lambda: not names(stack) and not stack.world.volumes)
    assert not stack.client.call(ListContainers(all=True))


def test_what_is_mounted_for_nobody_is_unmounted_at_boot(stack: Any) -> None:
    volume(stack)
    create(stack, binds=["used:/x"])
    stack.client.call(StartContainer(container="web"))
    stack.world.mounted_volumes.add("data")
    stack.restart_engine()
    wait_for(lambda: stack.world.mounted_volumes == {"used"})


def test_a_removal_that_is_refused_leaves_the_volume(stack: Any) -> None:
    volume(stack)
    stack.world.script["volumedriver_remove"] = fail(Conflict("remove data: something is mounted at /x"))
    with pytest.raises(Conflict, match="something is mounted"):
        stack.client.call(DeleteVolume(volume="data"))
    del stack.world.script["volumedriver_remove"]
    assert names(stack) == ["data"]
    assert stack.client.call(InspectVolume(volume="data")).name == "data"


def test_a_volume_can_be_made_anew_while_an_old_removal_has_failed(stack: Any) -> None:
    volume(stack)
    stack.world.script["volumedriver_remove"] = fail(DockyardError("disk on fire"))
    with pytest.raises(DockyardError, match="on fire"):
        stack.client.call(DeleteVolume(volume="data"))
    del stack.world.script["volumedriver_remove"]
    volume(stack, labels={"new": ""})
    assert len(calls(stack, UnmakeVolume)) >= 2
    assert stack.client.call(InspectVolume(volume="data")).labels == {"new": ""}
