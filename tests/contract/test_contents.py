"""What the graphdriver promises of the contents of containers, on each storage driver."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import signal
import socket
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from services.graphdriver.blobs import digest_of
from services.graphdriver.contents.roots import opened
from services.graphdriver.handlers import GraphDriver
from services.graphdriver.syscalls import is_mounted
from shared.bus.context import Context, current
from shared.bus.tickets import deliver, redeem
from shared.protocol import (
    CommitLayer,
    ContainerConfig,
    ContainerTree,
    CreateLayer,
    DockyardError,
    ExportLayer,
    GraphCollect,
    Header,
    Image,
    ImportLayer,
    InvalidArgument,
    LayerChanges,
    MountLayer,
    NewImage,
    NotFound,
    Output,
    ReadImageLayer,
    ReadPath,
    RemoveLayer,
    SetImage,
    StatPath,
    Ticket,
    TreeMount,
    Unavailable,
    UnmountLayer,
    WritePath,
)
from tests.contract.test_graphdriver import CONTAINER, Graph, config_of, docker_archive, graph, machine, receive, tar

__all__ = ["graph", "machine"]

pytestmark = pytest.mark.root
OTHER = "d" * 64
BASE = tar(
    {"etc": None, "etc/passwd": b"root:x:0:0:root:/:/bin/sh\nme:x:7:8::/:/bin/sh\n", "gone": b"x", "kept": b"k",
     "old": None, "old/a": b"a", "old/b": b"b", "old/sub": None, "old/sub/c": b"c", "swap": None, "swap/x": b"x",
     "tmp": None}
)  # fmt: skip


def new_image(parent: Image | None = None, **fields: Any) -> NewImage:
    given = {"config": ContainerConfig(cmd=["sh"]), "architecture": "amd64", "os": "linux", "action": "create"}
    return NewImage(**{**given, "created": "2026-01-01T00:00:00Z", "parent": parent, **fields})


def base(graph: Graph) -> Image:
    (image,) = graph.load(docker_archive(config_of((BASE,)), [BASE], ["base:1"]))
    return image


def recorded(graph: Graph) -> Image:
    call = graph.bus.calls[-1]
    assert isinstance(call, SetImage)
    return call.image


def commit(graph: Graph, parent: Image, container: str = CONTAINER) -> Image:
    image_id = graph.do(CommitLayer(container=container, image=new_image(parent)))
    image = recorded(graph)
    assert image.id == image_id
    return image


def upload(graph: Graph, job: Any, send: Callable[[Ticket], None]) -> Any:
    """Do a job as its caller does: send what it wants to the ticket of its STATUS."""
    senders: list[threading.Thread] = []

    def on_status(output: Output) -> None:
        if output.stream == "progress":
            graph.progress.append(json.loads(output.text))
            return
        ticket = Ticket(**json.loads(output.text))
        senders.append(threading.Thread(target=send, args=(ticket,)))
        senders[-1].start()

    token = current.set(Context(Header(id="1"), on_status))
    try:
        return graph.do(job)
    finally:
        current.reset(token)
        for sender in senders:
            sender.join(10)


def sender(data: bytes) -> Callable[[Ticket], None]:
    def send(ticket: Ticket) -> None:
        with contextlib.suppress(OSError):
            deliver(ticket, [data])

    return send


def tree(container: str = CONTAINER, **fields: Any) -> ContainerTree:
    return ContainerTree(container=container, name="web", **fields)


def put(graph: Graph, path: str, data: bytes, **fields: Any) -> None:
    where = fields.pop("tree", tree())
    upload(graph, WritePath(tree=where, path=path, **fields), sender(data))


def told(graph: Graph, container: str = CONTAINER) -> list[str]:
    letters = {0: "C", 1: "A", 2: "D"}
    return [f"{letters[change.kind]} {change.path}" for change in graph.do(LayerChanges(container=container))]


def make_everything(root: Path) -> None:
    """Change a container in every way that a layer can hold."""
    (root / "gone").unlink()
    shutil.rmtree(root / "old")
    (root / "old").mkdir()
    (root / "old/new").write_text("new")
    shutil.rmtree(root / "swap")
    (root / "swap").write_text("a file now")
    (root / "kept").unlink()
    (root / "kept").mkdir(0o711)
    (root / "kept/in").write_text("in")
    (root / "long").mkdir()
    (root / "long" / ("n" * 255)).write_text("long")
    deep = root / "/".join(["d" * 100] * 5)
    deep.mkdir(parents=True)
    (deep / "ü").write_text("deep")
    (root / "f").write_text("linked")
    os.link(root / "f", root / "g")
    (root / "l").symlink_to("/etc/passwd")
    os.mkfifo(root / "fifo", 0o620)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(8, 1))
    (root / "tmp").chmod(0o1777)
    (root / "su").write_text("#!")
    os.chown(root / "su", 5, 6)
    (root / "su").chmod(0o4755)
    os.setxattr(root / "su", "user.note", bytes(range(256)))
    os.setxattr(root / "su", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    with (root / "sparse").open("wb") as file:
        file.seek(200 << 20)
        file.write(b"end")
    os.chown(root / "f", 2**32 - 2, 70000)
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)


def listing(root: Path) -> dict[str, Any]:
    """Return all that a layer keeps of each file; directories' times and sockets are not among it."""
    found = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(root))
        if stat.S_ISSOCK(status.st_mode):
            continue
        facts: list[Any] = [status.st_mode, status.st_uid, status.st_gid, status.st_rdev]
        if path.is_symlink():
            facts.append(path.readlink())
        elif path.is_file():
            first = inodes.setdefault(status.st_ino, name)
            head = path.read_bytes()[:100] if status.st_size < 1 << 20 else status.st_size
            xattrs = {key: os.getxattr(path, key) for key in os.listxattr(path)}
            facts += [int(status.st_mtime), head, first, xattrs]
        found[name] = facts
    return found


def test_what_is_committed_is_what_runs(graph: Graph) -> None:
    parent = base(graph)
    rootfs = graph.mounted(parent)
    make_everything(rootfs)
    before = listing(rootfs)
    image = commit(graph, parent)
    assert len(image.layers) == len(image.chain_ids) == 2
    again = graph.mounted(image, OTHER)
    assert listing(again) == before
    assert (again / "sparse").stat().st_blocks < 100
    assert told(graph, OTHER) == []
    (again / "old/new").unlink()
    shutil.move(again / "long", again / "longer")
    after = listing(again)
    third = commit(graph, image, OTHER)
    assert listing(graph.mounted(third, "e" * 64)) == after
    for container in (CONTAINER, OTHER, "e" * 64):
        graph.do(UnmountLayer(container=container))


def test_the_layer_says_what_its_digests_say(graph: Graph) -> None:
    parent = base(graph)
    (graph.mounted(parent) / "f").write_text("x")
    image = commit(graph, parent)
    data = receive(graph.do(ReadImageLayer(digest=image.layers[-1].digest)))
    assert digest_of(data) == image.diff_ids[-1]
    assert list(members(data)) == ["f"]
    config = json.loads(graph.driver.blobs.read(image.id))
    assert config["rootfs"]["diff_ids"] == image.diff_ids
    assert config["history"][-1] == {"created": "2026-01-01T00:00:00Z"}
    assert config["config"] == {"Cmd": ["sh"]}
    with pytest.raises(NotFound):
        graph.do(ReadImageLayer(digest="sha256:" + "0" * 64))


def test_diff_tells_what_changed_and_nothing_else(graph: Graph) -> None:
    rootfs = graph.mounted(base(graph))
    assert told(graph) == []
    (rootfs / "gone").unlink()
    (rootfs / "old/sub/c").write_text("changed")
    shutil.rmtree(rootfs / "swap")
    (rootfs / "swap").mkdir()
    (rootfs / "swap/y").write_text("y")
    (rootfs / "kept").chmod(0o600)
    (rootfs / "new").mkdir()
    (rootfs / "new/file").write_text("f")
    assert told(graph) == [
        "D /gone", "C /kept", "A /new", "A /new/file", "C /old", "C /old/sub", "C /old/sub/c", "C /swap",
        "D /swap/x", "A /swap/y",
    ]  # fmt: skip
    graph.do(UnmountLayer(container=CONTAINER))
    assert len(told(graph)) == 10
    assert not is_mounted(graph.config.root / "graph/containers" / CONTAINER / "merged")


def test_a_file_that_was_only_touched_back_is_no_change(graph: Graph) -> None:
    rootfs = graph.mounted(base(graph))
    status = (rootfs / "kept").stat()
    (rootfs / "kept").write_text("K")
    os.utime(rootfs / "kept", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.setxattr(rootfs / "old/a", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    assert told(graph) == ["C /old", "C /old/a"]


def test_what_the_runtime_makes_to_mount_on_is_no_change(graph: Graph) -> None:
    parent = base(graph)
    rootfs = graph.mounted(parent)
    for name in ("dev", "proc", "sys"):
        (rootfs / name).mkdir()
    for name in ("hosts", "hostname", "resolv.conf"):
        (rootfs / "etc" / name).touch()
    assert told(graph) == []
    assert commit(graph, parent).diff_ids == parent.diff_ids  # an empty layer is none
    (rootfs / "dev/null").write_text("somebody's")
    (rootfs / "etc/hosts").write_text("somebody's")
    assert told(graph) == ["A /dev", "A /dev/null", "C /etc", "A /etc/hosts"]


def test_an_image_without_layers_can_be_committed_to(graph: Graph) -> None:
    (scratch,) = graph.load(docker_archive(config_of(()), [], ["scratch:1"]))
    (graph.mounted(scratch) / "f").write_text("x")
    assert told(graph) == ["A /f"]
    assert len(commit(graph, scratch).layers) == 1


def test_a_name_that_would_be_a_whiteout_is_not_committed(graph: Graph) -> None:
    parent = base(graph)
    (graph.mounted(parent) / ".wh.kept").touch()
    with pytest.raises(InvalidArgument, match="means a removal"):
        commit(graph, parent)


def test_a_commit_that_fails_leaves_nothing(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = base(graph)
    (graph.mounted(parent) / "f").write_text("x")
    before = graph.files()
    graph.bus.answers["image_set"] = Unavailable("the engine was restarted")
    with pytest.raises(Unavailable):
        commit(graph, parent)
    graph.do(GraphCollect(keep_images=[parent], keep_containers=[CONTAINER]))
    assert graph.files() == before
    monkeypatch.setattr("services.graphdriver.blobs.os.fsync", full_disk)
    with pytest.raises(DockyardError, match="No space left"):
        commit(graph, parent)
    assert not list((graph.config.root / "graph/tmp").iterdir())


def full_disk(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_layer_of_a_removed_parent_is_not_built_upon(graph: Graph) -> None:
    parent = base(graph)
    with pytest.raises(NotFound):
        graph.do(CommitLayer(container=CONTAINER, image=new_image(parent)))
    graph.mounted(parent)
    graph.do(RemoveLayer(container=CONTAINER))
    graph.do(GraphCollect(keep_images=[], keep_containers=[]))
    with pytest.raises(NotFound):
        graph.do(CommitLayer(container=CONTAINER, image=new_image(parent)))


# -- import


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_a_tar_becomes_an_image(graph: Graph, pack: Callable[[bytes], bytes]) -> None:
    order = ImportLayer(src="-", image=new_image(tags=["example.test/x:1"], action="import", comment="hi"))
    image_id = upload(graph, order, sender(pack(BASE)))
    image = recorded(graph)
    assert (image.id, image.diff_ids) == (image_id, [digest_of(BASE)])
    assert graph.bus.calls[-1].tags == ["example.test/x:1"]  # type: ignore[attr-defined]
    assert (graph.mounted(image) / "old/sub/c").read_text() == "c"


@pytest.mark.parametrize(
    "data",
    [b"", b"no tar" * 1000, BASE[:700], gzip.compress(BASE)[:-9], zstandard.compress(BASE)[:-9],
     bz2.compress(BASE)[:-9], lzma.compress(BASE)[:-9], BASE[:1536] + b"x" * 512 + BASE[2048:]],
)  # fmt: skip
def test_a_broken_tar_becomes_none(graph: Graph, data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        upload(graph, ImportLayer(src="-", image=new_image()), sender(data))
    assert not graph.bus.calls
    graph.do(GraphCollect(keep_images=[], keep_containers=[]))
    assert not graph.files()


def test_what_its_sender_did_not_finish_becomes_none(graph: Graph) -> None:
    whole = tar({"a": b"1"})[:1024]  # ends with a member: as a tar there is nothing wrong with it

    def interrupted() -> Iterator[bytes]:
        yield whole
        raise ConnectionResetError

    def send(ticket: Ticket) -> None:
        with contextlib.suppress(ConnectionResetError):
            deliver(ticket, interrupted())

    with pytest.raises(Unavailable, match="went away"):
        upload(graph, ImportLayer(src="-", image=new_image()), send)
    upload(graph, ImportLayer(src="-", image=new_image()), sender(whole))
    assert len(graph.bus.calls) == 1


class Server:
    """An HTTP server on loopback that answers each request with ``answer``."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self.listener.getsockname()[1]}/root.tar"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(self.answer)


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    with contextlib.ExitStack() as stack:

        def make(answer: bytes) -> str:
            server = Server(answer)
            stack.callback(server.listener.close)
            return server.url

        yield make


def test_a_url_is_fetched_with_progress(graph: Graph, serve: Callable[[bytes], str]) -> None:
    packed = gzip.compress(BASE)
    url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)
    upload(graph, ImportLayer(src=url, image=new_image()), sender(b""))
    assert recorded(graph).diff_ids == [digest_of(BASE)]
    assert graph.progress[0] == {"status": f"Downloading from http://{url}"}
    assert graph.progress[-1]["progressDetail"] == {"current": len(packed), "total": len(packed)}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP status code 404"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "status code 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + BASE[:1024], "IncompleteRead"),
        (b"SSH-2.0\r\n", "cannot import"),
    ],
)
def test_what_a_server_does_not_give_whole_becomes_none(
    graph: Graph, serve: Callable[[bytes], str], answer: bytes, why: str
) -> None:
    with pytest.raises(DockyardError, match=why):
        upload(graph, ImportLayer(src=f"http://{serve(answer)}", image=new_image()), sender(b""))
    assert not graph.bus.calls


@pytest.mark.parametrize("src", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "data://x"])
def test_no_other_kind_of_source_is_opened(graph: Graph, src: str) -> None:
    with pytest.raises(InvalidArgument, match="neither"):
        upload(graph, ImportLayer(src=src, image=new_image()), sender(b""))


# -- copies


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def get(graph: Graph, path: str, **fields: Any) -> bytes:
    return receive(graph.do(ReadPath(tree=fields.pop("tree", tree()), path=path)).ticket)


def test_a_stopped_container_is_mounted_for_the_copy_only(graph: Graph) -> None:
    graph.do(CreateLayer(container=CONTAINER, chain_ids=base(graph).chain_ids))
    assert list(members(get(graph, "/old"))) == ["old", "old/a", "old/b", "old/sub", "old/sub/c"]
    put(graph, "/old", tar({"x/y": b"new"}))
    assert "/old/x/y" in str(told(graph))
    directory = graph.config.root / "graph/containers" / CONTAINER
    wait_until(lambda: not (directory / "borrowed").exists())
    assert not is_mounted(directory / "merged")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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


# -- mounts that are borrowed


class Held:
    """An export under way whose reader does not read."""

    def __init__(self, graph: Graph) -> None:
        self.connection = redeem(graph.do(ExportLayer(container=CONTAINER)))
        assert self.connection.recv(512)

    def rest(self) -> int:
        with self.connection:
            return sum(len(chunk) for chunk in iter(lambda: self.connection.recv(1 << 20), b""))


@pytest.fixture
def stopped(graph: Graph) -> Path:
    """A stopped container with enough in it to keep an export busy."""
    (graph.mounted(base(graph)) / "large").write_bytes(os.urandom(8 << 20))
    graph.do(UnmountLayer(container=CONTAINER))
    return graph.config.root / "graph/containers" / CONTAINER


def is_up(graph: Graph, directory: Path) -> bool:
    return graph.config.storage_driver == "vfs" or is_mounted(directory / "merged")


def test_a_start_in_the_middle_of_an_export_keeps_the_mount(graph: Graph, stopped: Path) -> None:
    held = Held(graph)
    rootfs = Path(graph.do(MountLayer(container=CONTAINER)))
    (rootfs / "started").write_text("x")
    assert held.rest() > 8 << 20
    wait_until(lambda: not (stopped / "borrowed").exists())
    assert is_up(graph, stopped)
    assert (rootfs / "started").exists()
    graph.do(UnmountLayer(container=CONTAINER))
    assert not is_mounted(stopped / "merged")


def test_a_stop_in_the_middle_of_an_export_unmounts_after_it(graph: Graph, stopped: Path) -> None:
    graph.do(MountLayer(container=CONTAINER))
    held = Held(graph)
    graph.do(UnmountLayer(container=CONTAINER))
    assert is_up(graph, stopped)
    assert held.rest() > 8 << 20
    wait_until(lambda: not (stopped / "borrowed").exists())
    assert not is_mounted(stopped / "merged")


def test_a_removal_in_the_middle_of_an_export_waits_for_nobody(graph: Graph, stopped: Path) -> None:
    held = Held(graph)
    graph.do(RemoveLayer(container=CONTAINER))
    assert not stopped.exists()
    with contextlib.suppress(ConnectionResetError):
        held.rest()


def test_a_kill_in_the_middle_of_an_export_leaves_no_mount(graph: Graph, stopped: Path) -> None:
    held = Held(graph)
    GraphDriver(graph.config, graph.bus)
    assert not is_mounted(stopped / "merged")
    assert not (stopped / "borrowed").exists()
    held.connection.close()


def test_a_stream_that_breaks_off_has_no_end(graph: Graph, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("services.graphdriver.pack.TreeWriter.finish", full)
    connection = redeem(graph.do(ExportLayer(container=CONTAINER)))
    with connection, pytest.raises(ConnectionResetError):
        while connection.recv(1 << 20):
            continue


def test_a_container_that_is_not_there(graph: Graph) -> None:
    for job in (
        ExportLayer(container=CONTAINER),
        LayerChanges(container=CONTAINER),
        StatPath(tree=tree(), path="/"),
        ReadPath(tree=tree(), path="/"),
        WritePath(tree=tree(), path="/"),
    ):
        with pytest.raises(NotFound):
            graph.do(job)
    assert not (graph.config.root / "graph/containers" / CONTAINER).exists()
