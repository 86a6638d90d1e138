"""What the graphdriver promises of the contents of containers, on each storage driver: copies in and out."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.graphdriver.contents.roots import opened
from services.graphdriver.syscalls import is_mounted
from shared.protocol import (
    CreateLayer,
    DockyardError,
    InvalidArgument,
    NotFound,
    StatPath,
    TreeMount,
)
from tests.contract.contents import (
    base,
    get,
    members,
    put,
    told,
    tree,
    wait_until,
)
from tests.contract.test_graphdriver import CONTAINER, Graph, graph, machine, tar

__all__ = ["graph", "machine"]

pytestmark = pytest.mark.root


def test_a_stopped_container_is_mounted_for_the_copy_only(graph: Graph) -> None:
    graph.do(CreateLayer(container=CONTAINER, chain_ids=base(graph).chain_ids))
    assert list(members(get(graph, "/old"))) == ["old", "old/a", "old/b", "old/sub", "old/sub/c"]
    put(graph, "/old", tar({"x/y": b"new"}))
    assert "/old/x/y" in str(told(graph))
    directory = graph.config.root / "graph/containers" / CONTAINER
    wait_until(lambda: not (directory / "borrowed").exists())
    assert not is_mounted(directory / "merged")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/old/a", ["a"]),
        ("old/a", ["a"]),
        ("/etc/../old/sub", ["sub", "sub/c"]),
        ("/../../old/sub/", ["sub", "sub/c"]),
        ("/old/sub/.", [".", "./c"]),
    ],
)
def test_names_in_a_copy(graph: Graph, path: str, names: list[str]) -> None:
    graph.mounted(base(graph))
    assert list(members(get(graph, path))) == names


def test_a_copy_of_the_root_has_absolute_names(graph: Graph) -> None:
    graph.mounted(base(graph))
    with tarfile.open(fileobj=io.BytesIO(get(graph, "/"))) as archive:
        raw = [member.name for member in archive]
    assert {"/etc", "/old/sub/c"} <= set(raw) or {"etc", "old/sub/c"} <= set(raw)


def test_what_is_copied_into_stays_as_it_is(graph: Graph) -> None:
    """As with Docker: `tar -c . | docker cp - web:/tmp` leaves /tmp open to all, whoever has the directory here."""
    rootfs = graph.mounted(base(graph))
    (rootfs / "old").chmod(0o1777)
    before = (rootfs / "old").stat()
    for name in (".", "./", "/"):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for member in (name, "./sub", "./sub/mine"):
                info = tarfile.TarInfo(member)
                info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, 0o700, 1234, 77
                archive.addfile(info)
        put(graph, "/old", data.getvalue())
    after, inside = (rootfs / "old").stat(), (rootfs / "old/sub").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, 0, 0)
    assert (inside.st_mode & 0o7777, inside.st_uid, inside.st_gid) == (0o700, 1234, 77)
    assert (rootfs / "old/sub/mine").is_dir()


def test_an_archive_may_go_deeper_than_a_path_can_say(graph: Graph) -> None:
    graph.do(CreateLayer(container=CONTAINER, chain_ids=base(graph).chain_ids))
    deep = "/".join(["d" * 200] * 25)
    put(graph, "/tmp", tar({deep: None, f"{deep}/a": b"a"}))
    put(graph, "/tmp", tar({f"{deep}/x/y/z": b"z"}))
    put(graph, "/tmp", linking(f"{deep}/away", "/etc"))
    put(graph, "/tmp", tar({f"{deep}/away/b": b"b"}))  # links are followed, as the container follows them
    got = members(get(graph, "/tmp"))
    assert {f"tmp/{deep}/{name}" for name in ("a", "x/y/z", "away")} <= set(got)
    assert "etc/b" in members(get(graph, "/etc"))
    put(graph, "/tmp", linking(f"{deep}/nowhere", "../../nothing"))
    with pytest.raises(InvalidArgument, match="through a link to nowhere"):
        put(graph, "/tmp", tar({f"{deep}/nowhere/c": b"c"}))


def linking(name: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, target
        archive.addfile(link)
    return buffer.getvalue()


def test_an_archive_of_nothing_is_one(graph: Graph) -> None:
    rootfs = graph.mounted(base(graph))
    before = sorted(rootfs.rglob("*"))
    put(graph, "/old", b"")
    assert sorted(rootfs.rglob("*")) == before


def test_stat(graph: Graph) -> None:
    rootfs = graph.mounted(base(graph))
    (rootfs / "abs").symlink_to("/old/sub")
    (rootfs / "two").symlink_to("abs/../a")
    (rootfs / "broken").symlink_to("nowhere/else")
    (rootfs / "loop").symlink_to("loop")
    (rootfs / "out").symlink_to("../../../../etc/passwd")
    (rootfs / "tmp").chmod(0o1777)
    stat_of = lambda path: graph.do(StatPath(tree=tree(), path=path))  # noqa: E731
    assert (stat_of("/kept").name, stat_of("/kept").size, stat_of("/kept").mode) == ("kept", 1, 0o755)
    assert stat_of("/tmp").mode == 0o777 | 1 << 31 | 1 << 20
    assert (stat_of("/").name, stat_of("/old/.").name, stat_of("/old/").name) == ("/", ".", "old")
    assert (stat_of("/abs").mode & 1 << 27, stat_of("/abs").link_target) == (1 << 27, "/old/sub")
    assert stat_of("/two").link_target == "/old/a"
    assert stat_of("/abs/").mode == stat_of("/old/sub").mode
    assert stat_of("/broken").link_target == "/nowhere/else"
    assert stat_of("/out").link_target == "/etc/passwd"
    assert stat_of("/loop").mode & 1 << 27
    assert stat_of("/kept").mtime == "1970-01-01T00:00:00Z"
    for path in ("/nope", "/nope/x", "/broken/", "/abs/nope"):
        with pytest.raises(NotFound, match=f"^Could not find the file {path} in container web$"):
            stat_of(path)
    for path in ("", "a\0b", "/kept/", "/kept/x", "/loop/", "/" + "x/" * 5000):
        with pytest.raises(InvalidArgument):
            stat_of(path)


def test_where_an_archive_may_go(graph: Graph) -> None:
    rootfs = graph.mounted(base(graph))
    (rootfs / "abs").symlink_to("/old/sub")
    put(graph, "/abs", tar({"in": b"1"}))
    assert (rootfs / "old/sub/in").read_text() == "1"
    for path, error in (
        ("/kept", "extraction point is not a directory"),
        ("/nope", "Could not find the file /nope in"),
    ):
        with pytest.raises(DockyardError, match=error):
            put(graph, path, tar({"in": b"1"}))
    with pytest.raises(InvalidArgument, match=r"^container rootfs is marked read-only$"):
        put(graph, "/old", tar({"in": b"1"}), tree=tree(read_only=True))


def test_directories_and_files_are_not_taken_for_each_other(graph: Graph) -> None:
    rootfs = graph.mounted(base(graph))
    with pytest.raises(InvalidArgument, match='cannot overwrite directory "/old/sub" with non-directory "/old"'):
        put(graph, "/old", tar({"sub": b"1"}), no_overwrite_dir_non_dir=True)
    with pytest.raises(InvalidArgument, match='cannot overwrite non-directory "/kept" with directory "/"'):
        put(graph, "/", tar({"kept": None}), no_overwrite_dir_non_dir=True)
    put(graph, "/", tar({"kept": None, "old": b"1"}))
    assert (rootfs / "kept").is_dir()
    assert (rootfs / "old").read_text() == "1"


def owned(name: str, uid: int, gid: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.uid, info.gid = uid, gid
        archive.addfile(info)
    return buffer.getvalue()


def test_owners(graph: Graph) -> None:
    """By name from the container's own passwd, never by a library that the container could bring."""
    rootfs = graph.mounted(base(graph))
    for user, owner in (("", (3, 4)), ("me", (7, 8)), ("9", (9, 0)), ("me:5", (7, 5))):
        put(graph, "/tmp", owned("f", 3, 4), user=user)
        status = (rootfs / "tmp/f").stat()
        assert (status.st_uid, status.st_gid) == owner
    with pytest.raises(InvalidArgument, match="unable to find user nobody"):
        put(graph, "/tmp", owned("f", 3, 4), user="nobody")
    with pytest.raises(InvalidArgument, match="belongs to"):
        put(graph, "/tmp", owned("f", 2**32 - 1, 0))


def test_binds_of_a_stopped_container(graph: Graph, tmp_path: Path) -> None:
    graph.do(CreateLayer(container=CONTAINER, chain_ids=base(graph).chain_ids))
    volume, file = tmp_path / "volume", tmp_path / "file"
    (volume / "sub").mkdir(parents=True)
    (volume / "link").symlink_to("/data/sub")
    (volume / "out").symlink_to("/etc/passwd")
    file.write_text("bound")
    mounts = [
        TreeMount(source=str(volume), target="/data", read_only=False),
        TreeMount(source=str(volume), target="/ro", read_only=True),
        TreeMount(source=str(file), target="/etc/file", read_only=False),
        TreeMount(source=str(tmp_path / "missing"), target="/missing", read_only=False),
    ]
    where = tree(mounts=mounts, read_only=True)
    put(graph, "/data/link", tar({"x": b"1"}), tree=where)
    assert (volume / "sub/x").read_text() == "1"
    assert list(members(get(graph, "/data/sub", tree=where))) == ["sub", "sub/x"]
    assert b"bound" in get(graph, "/etc/file", tree=where)
    assert graph.do(StatPath(tree=where, path="/data/out")).link_target == "/etc/passwd"
    assert b"root:x:0:0:root:/:/bin/sh\nme" in get(graph, "/etc/passwd", tree=where)
    with pytest.raises(InvalidArgument, match=r"^mounted volume is marked read-only$"):
        put(graph, "/ro/sub", tar({"x": b"2"}), tree=where)
    with pytest.raises(InvalidArgument, match=r"^container rootfs is marked read-only$"):
        put(graph, "/tmp", tar({"x": b"2"}), tree=where)
    assert (volume / "sub/x").read_text() == "1"


@contextlib.contextmanager
def process_in(rootfs: Path, prepare: str = ":") -> Iterator[int]:
    """Run a process whose root is ``rootfs``, in a mount namespace of its own, after ``prepare`` in a shell."""
    shutil.copy("/usr/bin/busybox", rootfs / "busybox")
    script = f"{prepare}; exec chroot . /busybox sh -c 'echo; exec /busybox sleep 100'"
    command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", script]
    with subprocess.Popen(command, cwd=rootfs, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGKILL)


def test_a_running_container_is_seen_as_it_sees_itself(graph: Graph, tmp_path: Path) -> None:
    rootfs = graph.mounted(base(graph))
    (rootfs / "proc").mkdir()
    bound = tmp_path / "bound"
    bound.mkdir()
    mounts = f"mount -t tmpfs x tmp; mount -t proc x proc; mount --bind {bound} old; mount -o remount,ro,bind old"
    with process_in(rootfs, mounts) as pid:
        where = tree(pid=pid)
        put(graph, "/tmp", tar({"x": b"1"}), tree=where)
        assert list(members(get(graph, "/tmp", tree=where))) == ["tmp", "tmp/x"]
        assert not (rootfs / "tmp/x").exists()
        with pytest.raises(InvalidArgument, match=r"^mounted volume is marked read-only$"):
            put(graph, "/old", tar({"x": b"1"}), tree=where)
        put(graph, "/tmp", tar({"y": b"1"}), tree=tree(pid=pid, read_only=True))
        with pytest.raises(InvalidArgument, match=r"^container rootfs is marked read-only$"):
            put(graph, "/swap", tar({"x": b"1"}), tree=tree(pid=pid, read_only=True))
        assert [name for name in members(get(graph, "/", tree=where)) if name.lstrip("/").startswith("proc")] in (
            [["/proc"], ["proc"]]
        )
        for path in ("/proc", "/proc/version"):
            with pytest.raises(NotFound, match=f"Could not find the file {path} in container web"):
                get(graph, path, tree=where)
        with pytest.raises(InvalidArgument, match="symbolic links"):
            get(graph, f"/proc/{pid}/root/etc", tree=where)
        with pytest.raises(InvalidArgument, match="kernel's own"):
            put(graph, "/", tar({"proc/x": b"1"}), tree=where)


def test_a_container_that_ends_meanwhile_keeps_its_mounts(graph: Graph, tmp_path: Path) -> None:
    rootfs = graph.mounted(base(graph))
    bound = tmp_path / "bound"
    bound.mkdir()
    with (
        process_in(rootfs, f"mount --bind {bound} tmp") as pid,
        opened(graph.driver.layers, tree(pid=pid)) as root,
    ):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
        place = root.open("/tmp", os.O_PATH)
        try:
            assert os.path.samestat(os.fstat(place), bound.stat())
        finally:
            os.close(place)


def test_a_pid_that_is_another_processs_by_now_is_not_believed(graph: Graph) -> None:
    rootfs = graph.mounted(base(graph))
    (rootfs / "mine").write_text("mine")
    for pid in (1, os.getpid(), 2**22 - 1):
        assert b"mine" in get(graph, "/mine", tree=tree(pid=pid))
        put(graph, "/tmp", tar({f"p{pid}": b"1"}), tree=tree(pid=pid))
        assert (rootfs / f"tmp/p{pid}").exists()
        assert not Path(f"/tmp/p{pid}").exists()
