"""What the graphdriver promises of the contents of containers, on each storage driver: commit and diff."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from services.graphdriver.blobs import digest_of
from services.graphdriver.syscalls import is_mounted
from shared.protocol import (
    CommitLayer,
    DockyardError,
    GraphCollect,
    InvalidArgument,
    NotFound,
    ReadImageLayer,
    RemoveLayer,
    Unavailable,
    UnmountLayer,
)
from tests.contract.contents import (
    OTHER,
    base,
    commit,
    full_disk,
    members,
    new_image,
    told,
)
from tests.contract.test_graphdriver import CONTAINER, Graph, config_of, docker_archive, graph, machine, receive

__all__ = ["graph", "machine"]

pytestmark = pytest.mark.root


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
    (rootfs / ".dockerenv").touch()
    (rootfs / "etc/mtab").symlink_to("/proc/mounts")
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
    graph.do(GraphCollect(keep_names=sorted(parent.names), keep_containers=[CONTAINER]))
    assert graph.files() == before
    monkeypatch.setattr("services.graphdriver.durable.sync_file_system", full_disk)
    with pytest.raises(DockyardError, match="no space left"):
        commit(graph, parent)
    assert not list((graph.config.root / "graph/tmp").iterdir())


def test_a_layer_of_a_removed_parent_is_not_built_upon(graph: Graph) -> None:
    parent = base(graph)
    with pytest.raises(NotFound):
        graph.do(CommitLayer(container=CONTAINER, image=new_image(parent)))
    graph.mounted(parent)
    graph.do(RemoveLayer(container=CONTAINER))
    graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    with pytest.raises(NotFound):
        graph.do(CommitLayer(container=CONTAINER, image=new_image(parent)))
