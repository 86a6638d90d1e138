"""Archives that `docker load` must refuse, or must take as what they are: nothing of one that is refused is left."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from services.graphdriver.blobs import digest_of
from shared.protocol import GraphCollect, InvalidArgument, SetImage
from tests.contract.pulls import OCI_INDEX, PACKED
from tests.contract.test_graphdriver import LAYERS, Graph, config_of, docker_archive, graph, machine, oci_layout, tar

__all__ = ["graph", "machine"]

pytestmark = [pytest.mark.root, pytest.mark.parametrize("graph", ["overlay"], indirect=True)]


def refused(graph: Graph, archive: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        graph.load(archive)
    assert not [call for call in graph.bus.calls if isinstance(call, SetImage)]
    assert not list((graph.config.root / "graph/tmp").iterdir())
    graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    assert not graph.files()


def links(archive: bytes, *added: tuple[str, bytes, str]) -> bytes:
    """Return an archive with links (name, type, target) at its beginning."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as target, tarfile.open(fileobj=io.BytesIO(archive)) as source:
        for name, kind, link in added:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            target.addfile(info)
        for member in source:
            target.addfile(member, source.extractfile(member))
    return buffer.getvalue()


def named(config: str, *layers: str) -> bytes:
    return json.dumps([{"Config": config, "RepoTags": ["x:1"], "Layers": list(layers)}]).encode()


def layout(*entries: bytes, **fields: Any) -> bytes:
    """Make an OCI layout of documents, the first of which the index names."""
    index = {"manifests": [{"mediaType": OCI_INDEX, "digest": digest_of(entries[0]), "size": len(entries[0])}]}
    blobs = {f"blobs/sha256/{digest_of(data)[7:]}": data for data in entries}
    return tar({"index.json": json.dumps({**index, **fields}).encode(), **blobs})


def nested(depth: int) -> bytes:
    documents = [b'{"manifests": []}']
    for _ in range(depth):
        entry = {"mediaType": OCI_INDEX, "digest": digest_of(documents[0]), "size": len(documents[0])}
        documents.insert(0, json.dumps({"manifests": [entry]}).encode())
    return layout(*documents)


BOTH = json.dumps({"schemaVersion": 2, "config": {}, "layers": [], "manifests": []}).encode()
FOR_C = tar({"manifest.json": named("c")})
REFUSED: dict[str, tuple[bytes, str]] = {
    "a link out of it": (links(FOR_C, ("c", tarfile.SYMTYPE, "../../etc/passwd")), "missing"),
    "an absolute link": (links(FOR_C, ("c", tarfile.SYMTYPE, "/etc/passwd")), "missing"),
    "links in a circle": (links(FOR_C, ("c", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "c")), "missing"),
    "a hard link to the host": (links(FOR_C, ("c", tarfile.LNKTYPE, "/etc/passwd")), "missing"),
    "a device for a layer": (
        links(tar({"manifest.json": named("c", "d"), "c": config_of()}), ("d", tarfile.CHRTYPE, "")), "'d' is missing"),
    "a digest that a registry would give": (
        docker_archive(config_of(), list(LAYERS), [f"x@sha256:{'0' * 64}"]), '^invalid tag "x@sha256:0'),
    "brackets without end": (tar({"manifest.json": b"[" * 200_000}), "manifest.json is not JSON"),
    "no UTF-8": (tar({"manifest.json": b'[{"Config": "\xff"}]'}), "manifest.json"),
    "no UTF-8 in a config": (tar({"manifest.json": named("c"), "c": b'{"author": "\xff"}'}), "invalid image config"),
    "an index and a manifest": (layout(BOTH), "both an index and a manifest"),
    "indexes without end": (nested(5), "nested too deeply"),
    "another digest": (layout(b"{}").replace(b"{}", b"[]"), "does not match its digest"),
    "a digest that is a path": (
        tar({"index.json": b'{"manifests": [{"digest": "sha256:../../manifest"}]}', "manifest": b"{}"}),
        "does not match",
    ),
    "cut off": (docker_archive(config_of(), list(LAYERS), ["x:1"])[:8000], "unexpected end"),
    "cut off and packed": (gzip.compress(docker_archive(config_of(), list(LAYERS), ["x:1"]))[:-50], "ended before"),
    "a changed byte": (gzip.compress(docker_archive(config_of(), list(LAYERS), ["x:1"]))[:-8] + bytes(8), "checksum"),
}  # fmt: skip


def test_a_layout_does_not_give_digests_of_registries(graph: Graph) -> None:
    graph.load(oci_layout(config_of(), list(LAYERS), f"x@sha256:{'0' * 64}"))
    assert graph.bus.calls[-1].tags == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing(graph: Graph, name: str) -> None:
    archive, message = REFUSED[name]
    refused(graph, archive, message)


@pytest.mark.parametrize(
    ("name", "why"),
    [("a" * 256, "'a{200}…': File name too long$"), ("file/x", "leads through a link or a file$")],
)
def test_a_name_that_cannot_be_says_which(graph: Graph, name: str, why: str) -> None:
    layer = tar({"file": b"", name: b""})
    refused(graph, docker_archive(config_of((layer,)), [layer], ["x:1"]), f"^invalid layer: .*{why}")


def test_limits(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    many = tar({f"file{number}": b"" for number in range(50)})
    monkeypatch.setattr("services.graphdriver.spool.MAX_MEMBERS", 49)
    refused(graph, many, "more than 49 members")
    monkeypatch.setattr("services.graphdriver.spool.MAX_UNPACKED", 1 << 20)
    for pack in PACKS:
        refused(graph, pack(tar({"x": bytes(2 << 20)})), "unpacks to more than 1048576 bytes")
        refused(graph, pack(tar({"x": b""}) + bytes(4 << 20)), "unpacks to more than 1048576 bytes")


PACKS: tuple[Callable[[bytes], bytes], ...] = (bytes, gzip.compress)


def test_what_is_taken_as_what_it_is(graph: Graph) -> None:
    """Layers under two names, by links of both kinds; of two files with one name the last."""
    archive = tar({"manifest.json": b"[]", "c": config_of(), "one": PACKED[0], "two": PACKED[1]})
    archive = links(archive, ("1/layer.tar", tarfile.SYMTYPE, "../one"), ("2/layer.tar", tarfile.LNKTYPE, "two"))
    with_last = io.BytesIO(archive)
    with tarfile.open(fileobj=with_last, mode="a") as tar_file:
        info = tarfile.TarInfo("./manifest.json")
        data = named("c", "1/layer.tar", "2/layer.tar")
        info.size = len(data)
        tar_file.addfile(info, io.BytesIO(data))
    (image,) = graph.load(with_last.getvalue())
    assert image.id == digest_of(config_of())
    assert [layer.digest for layer in image.layers] == [digest_of(data) for data in PACKED]
    assert not list((graph.config.root / "graph/tmp").iterdir())


def test_names_that_are_no_text(graph: Graph) -> None:
    """Names of files are bytes to Linux: they come out as they went in."""
    layer = tar({"ascii": b"1"}).replace(b"ascii\0", b"\xff\xfeno\0")
    # the checksum is of other bytes now
    header = bytearray(layer[:512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    layer = bytes(header) + layer[512:]
    (image,) = graph.load(docker_archive(config_of((layer,)), [layer], ["x:1"]))
    assert [bytes(path) for path in graph.mounted(image).iterdir()] == [bytes(graph.mounted(image)) + b"/\xff\xfeno"]
