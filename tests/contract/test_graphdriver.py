"""What the graphdriver promises, on each storage driver."""

from __future__ import annotations

import contextlib
import errno
import functools
import gzip
import hashlib
import io
import itertools
import json
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from services.graphdriver.blobs import digest_of
from services.graphdriver.handlers import GraphDriver, jobs
from services.graphdriver.load import chain_ids
from services.graphdriver.syscalls import is_mounted, mount, unmount
from shared.bus.bus import FakeBus
from shared.bus.context import Context, current
from shared.bus.tickets import redeem
from shared.protocol import (
    DELETED,
    CreateLayer,
    DockyardError,
    ExportImages,
    GraphCollect,
    GraphStatus,
    Header,
    Image,
    InvalidArgument,
    LayerChanges,
    LayerUsage,
    LoadImages,
    MeasureLayer,
    MountLayer,
    NotFound,
    Output,
    RemoveLayer,
    SavedImage,
    SetImage,
    Ticket,
    UnmountLayer,
)
from shared.runtime.config import Config

pytestmark = pytest.mark.root
CONTAINER = "c" * 64


class Graph:
    def __init__(self, config: Config) -> None:
        self.config, self.bus = config, FakeBus({"image_get": {}})
        self.driver = GraphDriver(config, self.bus)
        self.progress: list[Any] = []

    def do(self, job: Any) -> Any:
        return jobs[job.__struct_config__.tag](self.driver, job)

    def load(self, archive: bytes, *, quiet: bool = True, platform: str = "") -> list[Image]:
        """Load as the API does: the archive goes to the ticket of a STATUS; returns the images recorded."""
        known = len(self.bus.calls)

        def on_status(output: Output) -> None:
            if output.stream == "progress":
                self.progress.append(json.loads(output.text))
                return
            ticket = json.loads(output.text)
            threading.Thread(target=send, args=(Ticket(**ticket), archive)).start()

        token = current.set(Context(Header(id="1"), on_status))
        try:
            self.do(LoadImages(quiet=quiet, platform=platform))
        finally:
            current.reset(token)
        return [call.image for call in self.bus.calls[known:] if isinstance(call, SetImage)]

    def mounted(self, image: Image, container: str = CONTAINER) -> Path:
        self.do(CreateLayer(container=container, chain_ids=image.chain_ids))
        return Path(self.do(MountLayer(container=container)))

    def files(self) -> set[str]:
        """Return what is in the store, less its own directories."""
        root = self.config.root / "graph"
        return {str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir()}


def send(ticket: Ticket, data: bytes) -> None:
    with redeem(ticket) as connection:
        try:
            connection.sendall(data)
        except OSError:
            return


def tar(files: dict[str, bytes | None]) -> bytes:
    """Make a tar of files; None is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data or b""), 0o755
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            archive.addfile(info, io.BytesIO(data or b""))
    return buffer.getvalue()


LAYERS = (tar({"etc": None, "etc/one": b"1", "gone": b"x"}), tar({"etc/two": b"2", ".wh.gone": b""}))


def config_of(layers: tuple[bytes, ...] = LAYERS) -> bytes:
    document = {
        "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["sh"], "Env": None, "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in layers]},
        "history": [{"created_by": "test"}],
    }  # fmt: skip
    return json.dumps(document).encode()


def docker_archive(config: bytes, layers: list[bytes], tags: list[str], **files: bytes) -> bytes:
    names = [f"{index}/layer.tar" for index in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": tags, "Layers": names}]
    content = {"manifest.json": json.dumps(manifest).encode(), "config.json": config}
    return tar({**content, **dict(zip(names, layers, strict=True)), **files})


def oci_layout(config: bytes, layers: list[bytes], name: str) -> bytes:
    def descriptor(data: bytes) -> dict[str, Any]:
        return {"mediaType": "application/octet-stream", "digest": digest_of(data), "size": len(data)}

    manifest = json.dumps({"config": descriptor(config), "layers": [descriptor(data) for data in layers]}).encode()
    inner = json.dumps({"manifests": [{**descriptor(manifest), "platform": {"os": "linux", "architecture": "amd64"}}]})
    entry = {**descriptor(inner.encode()), "mediaType": "application/vnd.oci.image.index.v1+json",
             "annotations": {"io.containerd.image.name": name}}  # fmt: skip
    index = json.dumps({"manifests": [entry]}).encode()
    blobs = {f"blobs/sha256/{digest_of(d)[7:]}": d for d in (config, manifest, inner.encode(), *layers)}
    return tar({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **blobs})


@pytest.fixture(params=["overlay", "vfs"])
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Graph]:
    run = tmp_path / "run"
    run.mkdir()
    graph = Graph(Config(root=tmp_path / "root", run=run, storage_driver=request.param))
    yield graph
    graph.driver.tickets.close()
    graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    assert not graph.files()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An amd64 machine, and the umask that `run` sets."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    before = os.umask(0o077)
    yield
    os.umask(before)


def unpacked(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        return {member.name: source.extractfile(member).read() for member in source}  # type: ignore[union-attr]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("outer", [bytes, gzip.compress])
def test_a_docker_archive_becomes_an_image(graph: Graph, pack: Any, outer: Any) -> None:
    archive = docker_archive(config_of(), [pack(layer) for layer in LAYERS], ["busybox:1", "example.test/a/b"])
    (image,) = graph.load(outer(archive))
    assert image.id == digest_of(config_of())
    assert image.config.cmd == ["sh"]
    assert image.chain_ids == chain_ids(image.diff_ids)
    assert image.layer_sizes == [2, 1] or graph.driver.layers.driver.name == "vfs"
    assert graph.bus.calls[-1].tags == ["docker.io/library/busybox:1", "example.test/a/b:latest"]  # type: ignore[attr-defined]
    assert graph.progress[0] == {"stream": "Loaded image: busybox:1\n"}
    rootfs = graph.mounted(image)
    assert sorted(p.name for p in rootfs.rglob("*")) == ["etc", "one", "two"]


def test_a_load_tells_who_loses_a_name(graph: Graph) -> None:
    held = {"docker.io/library/busybox:1": "sha256:old", "docker.io/library/mine:1": digest_of(config_of())}
    graph.bus.answers["image_get"] = lambda job: {"Id": held[job.image]} if job.image in held else {}
    graph.load(docker_archive(config_of(), list(LAYERS), ["busybox:1", "mine:1", "new:1"]))
    assert [line["stream"] for line in graph.progress] == [
        "The image busybox:1 already exists, renaming the old one with ID sha256:old to empty string\n",
        "Loaded image: busybox:1\n", "Loaded image: mine:1\n", "Loaded image: new:1\n",
    ]  # fmt: skip


def test_an_oci_layout_with_nested_indexes_too(graph: Graph) -> None:
    (image,) = graph.load(oci_layout(config_of(), [gzip.compress(layer) for layer in LAYERS], "example.test/x:2"))
    assert image.id == digest_of(config_of())
    assert graph.bus.calls[-1].tags == ["example.test/x:2"]  # type: ignore[attr-defined]


def test_what_is_saved_loads_as_the_same_image(graph: Graph) -> None:
    (image,) = graph.load(docker_archive(config_of(), [gzip.compress(layer) for layer in LAYERS], ["busybox:1"]))
    saved = SavedImage(image=image, tags=["docker.io/library/busybox:1"])
    archive = receive(graph.do(ExportImages(images=[saved])))
    assert receive(graph.do(ExportImages(images=[saved]))) == archive
    graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    assert not graph.files()
    (again,) = graph.load(archive)
    assert again == image
    assert graph.bus.calls[-1].tags == ["docker.io/library/busybox:1"]  # type: ignore[attr-defined]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar_file:
        assert {"manifest.json", "index.json", "oci-layout"} <= set(tar_file.getnames())


def receive(ticket: Ticket) -> bytes:
    data = b""
    with redeem(ticket) as connection:
        while chunk := connection.recv(1 << 16):
            data += chunk
    return data


def test_a_container_layer_is_its_own_and_survives_an_unmount(graph: Graph) -> None:
    (image,) = graph.load(docker_archive(config_of(), list(LAYERS), ["busybox:1"]))
    rootfs = graph.mounted(image)
    (rootfs / "mine").write_text("abc")
    (rootfs / "etc/one").unlink()
    other = graph.mounted(image, "d" * 64)
    assert (other / "etc/one").read_text() == "1"
    assert not (other / "mine").exists()
    for _ in range(2):
        graph.do(UnmountLayer(container=CONTAINER))
    rootfs = Path(graph.do(MountLayer(container=CONTAINER)))
    assert Path(graph.do(MountLayer(container=CONTAINER))) == rootfs
    assert (rootfs / "mine").read_text() == "abc"
    for _ in range(2):
        graph.do(RemoveLayer(container=CONTAINER))
    with pytest.raises(NotFound):
        graph.do(MountLayer(container=CONTAINER))


def test_what_is_a_containers_own_is_measured(graph: Graph) -> None:
    (image,) = graph.load(docker_archive(config_of(), list(LAYERS), ["busybox:1"]))
    rootfs = graph.mounted(image)
    below = sum(image.layer_sizes)
    assert graph.do(MeasureLayer(container=CONTAINER)) == LayerUsage(rw=0, root=below)
    (rootfs / "new/deep").mkdir(parents=True)
    (rootfs / "new/deep/file").write_bytes(b"x" * 1000)
    (rootfs / "new/again").hardlink_to(rootfs / "new/deep/file")
    (rootfs / "etc/one").write_text("1, and more")
    (rootfs / "new/link").symlink_to("deep")
    (rootfs / "etc/two").unlink(missing_ok=True)
    assert graph.do(MeasureLayer(container=CONTAINER)) == LayerUsage(rw=1015, root=below + 1015)
    graph.do(UnmountLayer(container=CONTAINER))
    assert graph.do(MeasureLayer(container=CONTAINER)).rw == 1015
    with pytest.raises(NotFound):
        graph.do(MeasureLayer(container="e" * 64))


def test_a_new_driver_finds_what_was_there(graph: Graph) -> None:
    (image,) = graph.load(docker_archive(config_of(), list(LAYERS), ["busybox:1"]))
    rootfs = graph.mounted(image)
    (rootfs / "mine").write_text("abc")
    (graph.config.root / "graph/tmp/half-done").write_text("x")
    graph.driver = GraphDriver(graph.config, graph.bus)
    assert not (graph.config.root / "graph/tmp/half-done").exists()
    assert (Path(graph.do(MountLayer(container=CONTAINER))) / "mine").read_text() == "abc"


def test_collect_removes_exactly_what_nobody_names(graph: Graph) -> None:
    shared, other = LAYERS[0], tar({"other": b"o"})
    (one,) = graph.load(docker_archive(config_of(), list(LAYERS), ["one:1"]))
    (two,) = graph.load(docker_archive(config_of((shared, other)), [shared, other], ["two:1"]))
    graph.mounted(one)
    graph.mounted(two, "d" * 64)
    freed = graph.do(GraphCollect(keep_names=sorted(two.names), keep_containers=["d" * 64]))
    assert freed > 0
    assert graph.do(GraphCollect(keep_names=sorted(two.names), keep_containers=["d" * 64])) == 0
    assert (Path(graph.do(MountLayer(container="d" * 64))) / "other").read_text() == "o"
    with pytest.raises(NotFound):
        graph.do(CreateLayer(container=CONTAINER, chain_ids=one.chain_ids))


def long_names(count: int) -> bytes:
    """Make a chain of GNU long names, on each of which tarfile recurses."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    return (header.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")) * count


LONG_NAMES = long_names(5000)


def broken(**changes: Any) -> bytes:
    config = json.loads(config_of())
    config.update(changes)
    return docker_archive(json.dumps(config).encode(), list(LAYERS), ["busybox:1"])


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"no archive",
        gzip.compress(b"no archive"),
        gzip.compress(tar({"x": b"y"}))[:-10],
        tar({"x": b"y"}),
        tar({"manifest.json": b"{"}),
        tar({"manifest.json": b"{}"}),
        tar({"manifest.json": b"[7]"}),
        tar({"manifest.json": b'[{"Config": "../../etc/passwd", "Layers": []}]'}),
        tar({"manifest.json": b"[" * 100_000}),
        tar({"manifest.json": b" " * (5 << 20)}),
        tar({"index.json": b'{"manifests": [{"digest": "sha256:00"}]}'}),
        docker_archive(b"{}", list(LAYERS), ["busybox:1"]),
        docker_archive(config_of(), list(LAYERS), ["Not A Reference"]),
        docker_archive(config_of(), [LAYERS[0]], ["busybox:1"]),
        docker_archive(config_of(), [LAYERS[1], LAYERS[0]], ["busybox:1"]),
        docker_archive(config_of(), [LAYERS[0], gzip.compress(LAYERS[1])[:-8]], ["busybox:1"]),
        broken(rootfs={"diff_ids": ["sha256:" + "0" * 64] * 2}),
        broken(rootfs={"diff_ids": 7}),
        broken(os="windows"),
        broken(config={"Cmd": 7}),
        broken(config=[1]),
        broken(author="\ud800"),
        broken(comment=7),
        broken(rootfs={"diff_ids": ["../../.."] * 2}),
        LONG_NAMES,
        docker_archive(config_of((LONG_NAMES,)), [LONG_NAMES], ["busybox:1"]),
        oci_layout(config_of(), list(LAYERS), "x:1").replace(b'"Cmd": ["sh"]', b'"Cmd": ["rm"]'),
    ],
)
def test_a_broken_archive_is_refused_and_leaves_nothing(graph: Graph, archive: bytes) -> None:
    with pytest.raises(InvalidArgument):
        graph.load(archive)
    assert not [call for call in graph.bus.calls if isinstance(call, SetImage)]
    graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    assert not graph.files()


def many_layers(graph: Graph, count: int) -> Image:
    layers = tuple(tar({f"file{n}": hashlib.sha256(str(n).encode()).digest()}) for n in range(count))
    (image,) = graph.load(docker_archive(config_of(layers), list(layers), ["many:1"]))
    return image


def test_more_than_a_hundred_layers(graph: Graph) -> None:
    assert len(list(graph.mounted(many_layers(graph, 110)).iterdir())) == 110


@pytest.mark.parametrize("graph", ["overlay"], indirect=True)
def test_as_many_layers_as_an_image_may_have(graph: Graph) -> None:
    count = 500
    image = many_layers(graph, count)
    root = graph.mounted(image)
    assert len(list(root.iterdir())) == count
    (root / "file0").unlink()
    changed = graph.do(LayerChanges(container=CONTAINER))
    assert [(change.path, change.kind) for change in changed] == [("/file0", DELETED)]


def test_and_not_one_more(graph: Graph) -> None:
    layers = (LAYERS[0],) * 501
    with pytest.raises(InvalidArgument, match="more than 500 layers"):
        graph.load(docker_archive(config_of(layers), list(layers), ["many:1"]))


def test_only_the_store_is_for_others_to_pass(graph: Graph) -> None:
    modes = {p.name: p.stat().st_mode & 0o777 for p in (graph.config.root / "graph").iterdir()}
    assert max(mode & 0o007 for mode in modes.values()) == 0
    assert graph.do(GraphStatus())["Driver"] == graph.config.storage_driver
    assert not is_mounted(graph.config.root)
    assert graph.driver.tickets.path.stat().st_mode & 0o777 == 0o600
    assert isinstance(graph.driver.tickets._listener, socket.socket)


def test_directories_that_no_entry_makes_are_for_everybody(graph: Graph) -> None:
    layer = tar({"srv/www/page": b"1"})
    (image,) = graph.load(docker_archive(config_of((layer,)), [layer], ["x:1"]))
    assert (graph.mounted(image) / "srv").stat().st_mode & 0o777 == 0o755


def test_an_image_without_layers(graph: Graph) -> None:
    (image,) = graph.load(docker_archive(config_of(()), [], ["scratch:1"]))
    (graph.mounted(image) / "file").write_text("x")
    assert graph.do(MeasureLayer(container=CONTAINER)).rw == 1


def test_a_whiteout_hides_what_is_below_and_not_its_own_layer(graph: Graph) -> None:
    below = tar({"d": None, "d/old": b"1", "e": None, "e/old": b"1", "f": b"1"})
    own = {"e": None, "e/new": b"2", ".wh.e": b"", "f": b"2", ".wh.f": b""}
    above = tar({".wh.d": b"", "d": None, "d/new": b"2", **own})
    (image,) = graph.load(docker_archive(config_of((below, above)), [below, above], ["x:1"]))
    rootfs = graph.mounted(image)
    assert (rootfs / "f").read_text() == "2"
    assert [p.name for p in (rootfs / "d").iterdir()] == ["new"]
    if graph.config.storage_driver == "overlay":  # a copy cannot tell below from own once both are there
        assert [p.name for p in (rootfs / "e").iterdir()] == ["new"]


def test_other_platforms_and_bare_tags_of_an_oci_layout(graph: Graph) -> None:
    files = unpacked(oci_layout(config_of(), list(LAYERS), "unused"))
    index = json.loads(files["index.json"])
    inner = json.loads(files[f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"])
    absent = {"digest": "sha256:" + "0" * 64, "size": 3, "platform": {"os": "linux", "architecture": "s390x"}}
    data = json.dumps({"manifests": [absent, *inner["manifests"]]}).encode()
    names = {"org.opencontainers.image.ref.name": "latest"}
    entry = {"digest": digest_of(data), "size": len(data), "annotations": names}
    files[f"blobs/sha256/{digest_of(data)[7:]}"] = data
    files["index.json"] = json.dumps({"manifests": [entry]}).encode()
    (image,) = graph.load(tar(dict(files)))
    assert graph.bus.calls[-1].tags == []  # type: ignore[attr-defined]
    assert graph.progress == [{"stream": f"Loaded image ID: {image.id}\n"}]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_a_load_that_is_not_quiet_tells_of_layers(graph: Graph, pack: Any) -> None:
    packed = [pack(layer) for layer in LAYERS]
    (image,) = graph.load(docker_archive(config_of(), packed, ["x:1"]), quiet=False)
    last = {line["id"]: line["progressDetail"] for line in graph.progress if "id" in line}
    assert last == {
        diff_id[7:19]: {"current": len(data), "total": len(data)}
        for diff_id, data in zip(image.diff_ids, packed, strict=True)
    }


class Late(set[str]):
    """Nothing to keep, and a load that begins the moment it is asked."""

    def __init__(self, begin: Callable[[], None]) -> None:
        super().__init__()
        self.begin = begin

    def __contains__(self, name: object) -> bool:
        self.begin()
        return False


def stored(graph: Graph) -> set[str]:
    """Return the names of all that is in the store: digests, and the beginnings of chain ids and containers' ids."""
    root = graph.config.root / "graph"
    places = ("blobs/sha256", graph.driver.layers.driver.name, "containers")
    return {path.name for place in places for path in (root / place).iterdir()}


def test_a_collection_in_pages_removes_what_it_is_asked_for(graph: Graph) -> None:
    for digit in "2ae":
        (image,) = graph.load(docker_archive(config_of((one := tar({digit: b"x"}),)), [one], [f"x:{digit}"]))
        graph.mounted(image, digit * 64)
    everything = stored(graph)
    assert len(everything) >= 9
    edges = ["", *sorted(name[:12] for name in everything)[2::3], ""]
    chain = image.chain_ids[0].removeprefix("sha256:")  # the only one: the digest of its blob too
    kept = {chain, chain[:12], "a" * 64}
    for begin, end in itertools.pairwise(edges):
        before = stored(graph)
        asked = {name for name in before if begin <= name[:12] and (not end or name[:12] < end)}
        graph.do(GraphCollect(keep_containers=["a" * 64], keep_names=image.chain_ids, begin=begin, end=end))
        assert stored(graph) == before - asked | (asked & kept)
    assert stored(graph) == kept


def test_what_a_load_holds_since_the_collection_began_is_kept(graph: Graph) -> None:
    (image,) = graph.load(docker_archive(config_of(), list(LAYERS), ["x:1"]))
    blobs, layers = graph.driver.blobs, graph.driver.layers
    digests = [image.id, *(layer.digest for layer in image.layers)]
    with contextlib.ExitStack() as load:
        begin = functools.cache(lambda: load.enter_context(blobs.hold([*digests, *image.chain_ids])))
        blobs.collect(Late(begin), lambda name: True)
        layers.collect(set(), set(), lambda name: True)
        assert all(map(blobs.has, digests))
        assert None not in map(layers.size, image.chain_ids)


def test_a_killed_trial_mount_does_not_stop_the_next_start(graph: Graph) -> None:
    trial = graph.config.root / "graph/tmp/trial"
    for name in ("lower", "upper", "work", "merged"):
        (trial / name).mkdir(parents=True)
    options = f"lowerdir={trial}/lower,upperdir={trial}/upper,workdir={trial}/work"
    mount("overlay", trial / "merged", "overlay", options)
    try:
        GraphDriver(graph.config, graph.bus)
        assert not trial.exists()
    finally:
        unmount(trial / "merged")


def test_a_full_disk_is_not_the_archives_fault(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("services.graphdriver.unpack._write", full)
    with pytest.raises(DockyardError, match="no space") as caught:
        graph.load(docker_archive(config_of(), list(LAYERS), ["x:1"]))
    assert caught.value.code == "internal"


def test_a_root_without_room_for_a_change_is_not_mounted(graph: Graph) -> None:
    """overlayfs would mount it read-only, and the container's root would stay so until it is started again."""
    (image,) = graph.load(docker_archive(config_of(), list(LAYERS), ["x:1"]))
    graph.do(CreateLayer(container=CONTAINER, chain_ids=image.chain_ids))
    directory = graph.config.root / "graph/containers" / CONTAINER
    mount("tmpfs", directory, "tmpfs", "nr_inodes=20")
    try:
        graph.do(CreateLayer(container=CONTAINER, chain_ids=image.chain_ids))
        with contextlib.suppress(OSError):
            for number in range(20):
                (directory / str(number)).touch()
        if graph.driver.layers.driver.name == "overlay":
            with pytest.raises(DockyardError, match="no space left on device"):
                graph.do(MountLayer(container=CONTAINER))
            assert not (directory / "merged").is_mount()
        for filler in directory.glob("[0-9]*"):
            filler.unlink()
        Path(graph.do(MountLayer(container=CONTAINER)), "new").touch()
        graph.do(UnmountLayer(container=CONTAINER))
    finally:
        unmount(directory)


def test_a_damaged_blob_is_not_exported(graph: Graph) -> None:
    (image,) = graph.load(docker_archive(config_of(), list(LAYERS), ["x:1"]))
    path = graph.driver.blobs.path(image.layers[1].digest)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DockyardError, match="damaged"):
        graph.do(ExportImages(images=[SavedImage(image=image, tags=[])]))


def test_a_torn_file_is_an_error_and_a_stray_one_is_nothing(graph: Graph) -> None:
    (image,) = graph.load(docker_archive(config_of(), list(LAYERS), ["x:1"]))
    graph.do(CreateLayer(container=CONTAINER, chain_ids=image.chain_ids))
    containers = graph.config.root / "graph/containers"
    (containers / CONTAINER / "layers.json").write_text("")
    with pytest.raises(DockyardError, match="unreadable"):
        graph.do(MountLayer(container=CONTAINER))
    (containers / ".stray").mkdir()
    graph.do(GraphCollect(keep_names=sorted(image.names), keep_containers=[]))
