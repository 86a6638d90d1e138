"""Volumes and mounts with the real docker CLI; and kill -9 at ever other points of what makes and removes them."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root

FILES = 300  # in the image's /data, so that filling a volume takes a while


def member(
    name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, owner: int = 0, link: str = ""
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.uid, made.gid, made.linkname = kind, mode, owner, owner, link
    return made


def image_with_volumes(stack: Any, directory: Path) -> None:
    """Load `filled`: busybox, and volumes at /data (many files, 5:5 0750) and /empty (7:7 1770); and hostile links."""
    stack.docker("save", "-o", str(directory / "busybox.tar"), "busybox")
    with tarfile.open(directory / "busybox.tar") as archive:
        manifest = json.load(archive.extractfile("manifest.json"))[0]  # type: ignore[arg-type]
        config = json.load(archive.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        base = archive.extractfile(manifest["Layers"][0]).read()  # type: ignore[union-attr]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        layer.addfile(member("data", tarfile.DIRTYPE, 0o750, 5))
        layer.addfile(member("empty", tarfile.DIRTYPE, 0o1770, 7))
        for number in range(FILES):
            layer.addfile(member(f"data/{number}", owner=5))
        layer.addfile(member("link", tarfile.SYMTYPE, link="/data"))
        layer.addfile(member("hostile", tarfile.SYMTYPE, link="../../../../../../../tmp"))
    top = buffer.getvalue()
    config["config"]["Volumes"] = {"/data": {}, "/empty": {}}
    config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(top).hexdigest()}")
    config["history"].append({"created_by": "files"})
    manifest = [{"Config": "c.json", "RepoTags": ["filled:latest"], "Layers": ["base.tar", "top.tar"]}]
    parts = {"c.json": json.dumps(config).encode(), "base.tar": base, "top.tar": top,
             "manifest.json": json.dumps(manifest).encode()}  # fmt: skip
    with tarfile.open(directory / "filled.tar", "w") as archive:
        for name, data in parts.items():
            entry = member(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    stack.docker("load", "-i", str(directory / "filled.tar"))


@pytest.fixture
def volumes(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The shared stack, with the image `filled`; at the end there are no volumes."""
    if not stack.out("images", "-q", "filled"):
        image_with_volumes(stack, tmp_path_factory.mktemp("image"))
        stack.kept_images.add("filled")
    yield stack
    for ref in stack.out("ps", "-aq").split():
        stack.docker("rm", "-f", ref)
    for name in names(stack):
        stack.docker("volume", "rm", name)
    assert directories(stack) == []


def names(stack: Any) -> list[str]:
    return sorted(stack.out("volume", "ls", "-q").split())


def directories(stack: Any) -> list[str]:
    return sorted(path.name for path in (stack.root / "volumes").iterdir())


def mounted(stack: Any) -> list[str]:
    """Return what is mounted on the host for volumes."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    places = (f"{stack.root}/volumes/", f"{stack.run}/volumes/")
    return sorted(point for point in points if point.startswith(places))


def run(stack: Any, *args: str) -> str:
    return str(stack.docker("run", "--rm", *args).stdout)


def refused(stack: Any, *args: str) -> str:
    result = stack.docker(*args, check=False)
    assert result.returncode != 0
    return str(result.stderr)


def test_create_list_inspect_rm_and_prune(volumes: Any) -> None:
    assert volumes.out("volume", "create", "--label", "a=b", "first") == "first"
    assert volumes.out("volume", "create", "first") == "first"
    anonymous = volumes.out("volume", "create")
    assert len(anonymous) == 64
    assert volumes.out("volume", "ls", "-q", "--filter", "label=a=b") == "first"
    (shown,) = json.loads(volumes.out("volume", "inspect", "first"))
    assert (shown["Driver"], shown["Scope"], shown["Labels"], shown["Options"]) == ("local", "local", {"a": "b"}, None)
    assert shown["Mountpoint"] == f"{volumes.root}/volumes/first/_data"
    assert volumes.out("info", "--format", "{{.Plugins.Volume}}") == "[local]"
    assert volumes.out("volume", "rm", "first") == "first"
    volumes.docker("volume", "create", "first")
    assert anonymous in volumes.out("volume", "prune", "-f")
    assert names(volumes) == ([] if volumes.client < 23 else ["first"])
    volumes.docker("volume", "rm", "-f", "first")
    said = volumes.missing("volume", "first", "get first: no such volume")
    assert said in refused(volumes, "volume", "rm", "first")
    volumes.docker("volume", "rm", "-f", "first")
    assert 'error looking up volume plugin flocker: plugin "flocker" not found' in refused(
        volumes, "volume", "create", "-d", "flocker", "x1"
    )
    assert "names should be at least two alphanumeric characters" in refused(volumes, "volume", "create", "x")


def test_an_older_client_prunes_all_a_newer_one_the_anonymous(volumes: Any) -> None:
    for version, left in (("1.42", ["named"]), ("1.41", [])):
        volumes.docker("volume", "create", "named")
        connection = http.client.HTTPConnection("dockyard", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(f"{volumes.run}/docker.sock")
        connection.request("POST", f"/v{version}/volumes/prune")
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert answer == {"VolumesDeleted": [] if left else ["named"], "SpaceReclaimed": 0}
        assert names(volumes) == left


def test_data_outlives_its_containers_and_is_in_use_while_there_is_one(volumes: Any) -> None:
    run(volumes, "-v", "data:/x", "busybox", "sh", "-c", "echo hello > /x/file")
    assert run(volumes, "-v", "data:/elsewhere:ro", "busybox", "cat", "/elsewhere/file") == "hello\n"
    assert "Read-only" in refused(volumes, "run", "--rm", "-v", "data:/x:ro", "busybox", "touch", "/x/y")
    container = volumes.out("create", "--name", "holder", "-v", "data:/x", "busybox")
    assert f"remove data: volume is in use - [{container}]" in refused(volumes, "volume", "rm", "data")
    assert volumes.out("ps", "-a", "--filter", "volume=data", "--format", "{{.Mounts}}") == "data"
    assert volumes.out("volume", "ls", "-q", "--filter", "dangling=true") == ""
    (mount,) = json.loads(volumes.out("inspect", "-f", "{{json .Mounts}}", "holder"))
    assert mount == {
        "Type": "volume", "Name": "data", "Source": f"{volumes.root}/volumes/data/_data", "Destination": "/x",
        "Driver": "local", "Mode": "z", "RW": True, "Propagation": "",
    }  # fmt: skip


def test_volumes_of_an_image_are_filled_and_anonymous(volumes: Any) -> None:
    look = "stat -c '%a %u:%g' /data /empty; ls /data | wc -l; stat -c %u /data/7"
    assert run(volumes, "filled", "sh", "-c", look) == f"750 5:5\n1770 7:7\n{FILES}\n5\n"
    assert names(volumes) == []
    volumes.docker("create", "--name", "made", "filled")
    made = names(volumes)
    assert len(made) == 2
    listed = volumes.out("volume", "ls", "-q", "--filter", "label=com.docker.volume.anonymous")
    assert sorted(listed.split()) == made
    volumes.docker("rm", "made")
    assert names(volumes) == made
    volumes.docker("volume", "prune", "-f")
    volumes.docker("create", "--name", "made", "filled")
    volumes.docker("rm", "-v", "made")
    assert names(volumes) == []


def test_a_named_volume_is_filled_once_and_not_with_nocopy(volumes: Any) -> None:
    count = ["sh", "-c", "ls /data | wc -l"]
    assert run(volumes, "-v", "one:/data", "filled", *count) == f"{FILES}\n"
    run(volumes, "-v", "one:/x", "busybox", "sh", "-c", "rm /x/*; touch /x/mine")
    assert run(volumes, "-v", "one:/data", "filled", *count) == "1\n"
    assert run(volumes, "-v", "two:/data:nocopy", "filled", *count) == "0\n"
    assert run(volumes, "-v", "three:/link", "filled", "sh", "-c", "ls /link/ | wc -l") == f"{FILES}\n"
    assert "cannot mount volume over existing file, file exists /etc/passwd" in refused(
        volumes, "run", "--rm", "-v", "four:/etc/passwd", "busybox", "true"
    )


def test_volumes_from_another_container(volumes: Any) -> None:
    volumes.docker("create", "--name", "base", "-v", "/shared", "-v", "named:/named", "-v", "/etc:/host:ro", "busybox")
    run(volumes, "--volumes-from", "base", "busybox", "sh", "-c", "echo 1 > /shared/f; echo 2 > /named/f")
    read = ["sh", "-c", "cat /shared/f /named/f; touch /shared/x || test -f /host/hostname"]
    assert run(volumes, "--volumes-from", "base:ro", "busybox", *read) == "1\n2\n"
    assert "No such container: nobody" in refused(volumes, "run", "--volumes-from", "nobody", "busybox")


def test_binds(volumes: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file\n")
    assert run(volumes, "-v", f"{tmp_path}/file:/etc/x/y:ro", "busybox", "cat", "/etc/x/y") == "a file\n"
    run(volumes, "-v", f"{tmp_path}/made/by/us:/x", "busybox", "touch", "/x/f")
    assert (tmp_path / "made" / "by" / "us" / "f").exists()
    assert f"bind source path does not exist: {tmp_path}/no" in refused(
        volumes, "run", "--rm", "--mount", f"type=bind,src={tmp_path}/no,dst=/x", "busybox"
    )
    assert "Duplicate mount point: /x" in refused(volumes, "run", "--rm", "-v", "one:/x", "--tmpfs", "/x", "busybox")
    nested = ["-v", f"{tmp_path}/file:/a/b/c", "-v", f"{tmp_path}/outer:/a", "--tmpfs", "/a/b"]
    assert run(volumes, *nested, "busybox", "sh", "-c", "cat /a/b/c; touch /a/top") == "a file\n"
    assert (tmp_path / "outer" / "top").exists()
    not_shared = refused(volumes, "run", "--rm", "-v", f"{tmp_path}:/x:rshared", "busybox")
    assert f"path {tmp_path} is mounted on" in not_shared and "it is not a shared mount" in not_shared


def test_read_only_goes_all_the_way_down_unless_told_otherwise(volumes: Any, tmp_path: Path) -> None:
    volumes.needs(25, "bind-recursive")
    below = tmp_path / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", str(below)], check=True)
    try:
        assert "Read-only" in refused(
            volumes, "run", "--rm", "-v", f"{tmp_path}:/x:ro", "busybox", "touch", "/x/below/f"
        )
        mount = f"type=bind,src={tmp_path},dst=/x,readonly,bind-recursive="
        run(volumes, "--mount", f"{mount}writable", "busybox", "touch", "/x/below/f")
        assert run(volumes, "--mount", f"{mount}disabled", "busybox", "ls", "/x/below") == ""
    finally:
        subprocess.run(["umount", str(below)], check=True)


def test_tmpfs_mounts(volumes: Any) -> None:
    options = ["--mount", "type=tmpfs,dst=/a,tmpfs-size=1m,tmpfs-mode=1770", "--tmpfs", "/b:size=2m,exec"]
    lines = run(volumes, *options, "busybox", "grep", "-E", " /(a|b) ", "/proc/mounts").splitlines()
    assert sorted(lines) == [
        "tmpfs /a tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=1770 0 0",
        "tmpfs /b tmpfs rw,nosuid,nodev,relatime,size=2048k 0 0",
    ]


def test_subpaths(volumes: Any) -> None:
    volumes.needs(26, "volume-subpath")
    run(volumes, "-v", "data:/x", "busybox", "sh", "-c", "mkdir -p /x/a/b; echo hi > /x/a/f; ln -s /etc /x/out")
    for subpath, command in (("a", "cat /x/f"), ("a/f", "cat /x")):
        mount = f"type=volume,src=data,dst=/x,volume-subpath={subpath}"
        assert run(volumes, "--mount", mount, "busybox", "sh", "-c", command) == "hi\n"
    for subpath, text in (("out", "escapes the base directory"), ("no", "cannot access path")):
        mount = f"type=volume,src=data,dst=/x,volume-subpath={subpath}"
        assert text in refused(volumes, "run", "--rm", "--mount", mount, "busybox")
    until(lambda: not mounted(volumes))


def test_options_of_the_local_driver(volumes: Any, tmp_path: Path) -> None:
    volumes.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=5", "scratch")
    volumes.docker("run", "-d", "--name", "first", "-v", "scratch:/x", "busybox", "sh", "-c", "touch /x/f; sleep 60")
    where = f"{volumes.root}/volumes/scratch/_data"
    assert mounted(volumes) == [where]
    until(lambda: "f" in run(volumes, "-v", "scratch:/x", "busybox", "ls", "/x"))
    assert run(volumes, "-v", "scratch:/x", "busybox", "stat", "-c", "%u", "/x") == "5\n"
    assert mounted(volumes) == [where]
    volumes.docker("rm", "-f", "first")
    assert mounted(volumes) == []
    volumes.docker("volume", "create", "-o", "type=none", "-o", f"device={tmp_path}", "-o", "o=bind", "host")
    run(volumes, "-v", "host:/data", "filled", "true")
    assert len(list(tmp_path.glob("[0-9]*"))) == FILES
    volumes.docker("volume", "rm", "host")
    assert len(list(tmp_path.glob("[0-9]*"))) == FILES
    volumes.docker("volume", "create", "-o", "type=none", "-o", "device=/no/such", "-o", "o=bind", "bad")
    assert "failed to mount local volume: mount /no/such:" in refused(volumes, "run", "-v", "bad:/x", "busybox")
    assert "missing required option" in refused(volumes, "volume", "create", "-o", "type=tmpfs", "x1")
    assert "quota size requested but no quota support" in refused(volumes, "volume", "create", "-o", "size=1g", "x1")


def test_destinations_stay_inside_whatever_the_image_says(volumes: Any, tmp_path: Path) -> None:
    inside = f"/hostile/dockyard-{os.getpid()}"
    look = f"grep -c ' /tmp/dockyard-{os.getpid()} ' /proc/self/mountinfo"
    assert run(volumes, "-v", f"data:{inside}", "filled", "sh", "-c", look) == "1\n"
    assert not Path(f"/tmp/dockyard-{os.getpid()}").exists()


def test_a_container_that_swaps_a_mount_point_for_a_link_gets_nobody_out(volumes: Any, tmp_path: Path) -> None:
    """One container flips a directory of a shared volume to a link, others mount below it."""
    flip = "while :; do rm -rf /x/d; ln -s /../../../../../../tmp /x/d; rm -f /x/d; mkdir /x/d; done"
    volumes.docker("run", "-d", "--name", "flipper", "-v", "data:/x", "busybox", "sh", "-c", flip)
    target = f"/x/d/dockyard-{os.getpid()}"
    for _ in range(10):
        volumes.docker("run", "--rm", "-v", "data:/x", "-v", f"other:{target}", "busybox", "true", check=False)
    volumes.docker("rm", "-f", "flipper")
    assert not Path(f"/tmp/dockyard-{os.getpid()}").exists()


def test_events(volumes: Any) -> None:
    since = str(time.time())
    run(volumes, "-v", "told:/x:ro", "busybox", "true")
    volumes.docker("volume", "rm", "told")
    told = volumes.out("events", "--since", since, "--until", str(time.time() + 1), "--filter", "volume=told",
                       "--format", "{{json .}}")  # fmt: skip
    found = [json.loads(line) for line in told.splitlines()]
    assert [event["Action"] for event in found] == ["create", "mount", "unmount", "destroy"]
    attributes = found[1]["Actor"]["Attributes"]
    assert (attributes["destination"], attributes["read/write"], attributes["driver"]) == ("/x", "false", "local")


def test_volumes_are_jobs(volumes: Any) -> None:
    made = json.loads(volumes.dockyard("job", "volume_create", "mine", "--env", 'Labels={"a":"b"}').stdout)
    assert (made["Name"], made["Labels"]) == ("mine", {"a": "b"})
    assert json.loads(volumes.dockyard("job", "volumes").stdout)["Volumes"][0]["Name"] == "mine"
    assert json.loads(volumes.dockyard("job", "volume_inspect", "mine").stdout) == made
    volumes.dockyard("job", "volume_delete", "mine")
    assert names(volumes) == []


# -- kill -9


def kill(stack: Any, service: str) -> None:
    for pid in stack.pids(service):
        os.kill(pid, signal.SIGKILL)


def at_rest(stack: Any) -> bool:
    """Say whether every directory has a record and nothing is mounted: there are no containers."""
    listed = stack.docker("volume", "ls", "-q", check=False)
    return listed.returncode == 0 and sorted(listed.stdout.split()) == directories(stack) and not mounted(stack)


def gone(stack: Any, ref: str) -> bool:
    removed = stack.docker("rm", "-f", "-v", ref, check=False)
    return removed.returncode == 0 or "No such container" in removed.stderr


@pytest.mark.parametrize("service", ["engine", "graphdriver", "execdriver"])
def test_killed_anywhere_nothing_is_left_that_no_record_tells_of(
    new_stack: Callable[..., Any], tmp_path: Path, service: str
) -> None:
    """A process is killed ever later in run, then in rm -v; a volume is filled whole or not at all."""
    stack = new_stack().start()
    stack.dockyard("busybox")
    image_with_volumes(stack, tmp_path)
    stack.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "scratch")
    for step in range(9):  # more than ten restarts in a minute end the stack
        name = f"victim{step}"
        command = ["docker", "run", "-d", "--name", name, "-v", f"named{step}:/data", "-v", "/anonymous",
                   "-v", "scratch:/scratch", "filled", "sleep", "60"]  # fmt: skip
        running = subprocess.Popen(command, env=stack.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if step % 3 == 2:  # in the removal
            running.wait(60)
            running = subprocess.Popen(["docker", "rm", "-f", "-v", name], env=stack.environ,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        time.sleep(0.025 * step)
        kill(stack, service)
        running.wait(60)
        until(lambda name=name: gone(stack, name), 60)
        until(lambda: at_rest(stack), 30, "not at rest")
        filled = run(stack, "-v", f"named{step}:/x", "busybox", "sh", "-c", "ls -A /x | wc -l")
        assert filled.strip() in ("0", str(FILES))
    left = {name for name in names(stack) if not name.startswith("named")}
    assert left == {"scratch"}
    stack.prune_volumes()
    stack.docker("volume", "rm", "scratch")
    assert directories(stack) == []


def test_volumes_stay_mounted_under_running_containers_over_a_restart(new_stack: Callable[..., Any]) -> None:
    stack = new_stack().start()
    stack.dockyard("busybox")
    stack.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "scratch")
    loop = "touch /x/f; while :; do test -f /x/f || exit 9; sleep 0.05; done"
    stack.docker("run", "-d", "--name", "user", "-v", "scratch:/x", "busybox", "sh", "-c", loop)
    stack.stop()
    stack.notifications.clear()
    stack.start()
    assert mounted(stack) == [f"{stack.root}/volumes/scratch/_data"]
    assert run(stack, "-v", "scratch:/x", "busybox", "ls", "/x") == "f\n"
    assert stack.out("inspect", "-f", "{{.State.Running}}", "user") == "true"
    stack.docker("rm", "-f", "user")
    assert mounted(stack) == []
