"""What a pull refuses, and that nothing of it is left."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from services.graphdriver.blobs import digest_of
from shared.protocol import (
    GraphCollect,
    InvalidArgument,
)
from tests.contract.pulls import (
    OCI,
    OCI_INDEX,
    PACKED,
    index_of,
    manifest_of,
    pull,
    recorded,
    registry,
    until,
)
from tests.contract.test_graphdriver import LAYERS, Graph, config_of, graph, machine, tar
from tests.registries import Answer, Scripted, image_files

__all__ = ["graph", "machine", "registry"]

pytestmark = [pytest.mark.root, pytest.mark.parametrize("graph", ["overlay"], indirect=True)]


def hostile(change: Callable[[dict[str, Answer], dict[str, Any]], object]) -> dict[str, Answer]:
    """Return an image's files after ``change`` of them, and of the manifest's document."""
    files = image_files(config_of(), PACKED)
    path = next(iter(files))
    document = json.loads(files.pop(path).body)
    change(files, document)
    data = json.dumps(document).encode()
    return {f"manifests/{digest_of(data)}": Answer(body=data, headers={"Content-Type": document["mediaType"]}), **files}


def layer(document: dict[str, Any], **changes: Any) -> None:
    document["layers"][1].update(changes)


def blob(files: dict[str, Answer], data: bytes, **changes: Any) -> None:
    files[f"blobs/{digest_of(data)}"] = Answer(**{"body": data, **changes})


BOMB = zstandard.compress(tar({"x": b"y"}) + bytes(32 << 20))
REFUSED: dict[str, tuple[Callable[[dict[str, Answer], dict[str, Any]], object], str]] = {
    "schema 1": (lambda f, d: d.update(schemaVersion=1), "schema version 1 is no more used"),
    "no schema": (lambda f, d: d.pop("schemaVersion"), "schemaVersion is not 2"),
    "manifest type": (lambda f, d: d.update(mediaType="text/html"), "media type of a manifest: 'text/html'"),
    "both": (lambda f, d: d.update(manifests=[]), "both an index and a manifest"),
    "no config": (lambda f, d: d.pop("config"), "config is not an object"),
    "config type": (lambda f, d: d["config"].update(mediaType="application/x"), "not a container image"),
    "config size": (lambda f, d: d["config"].update(size=5 << 20), "is not from 0 to 4194304 bytes"),
    "config is larger": (lambda f, d: d["config"].update(size=10), "is larger than the manifest says"),
    "config is smaller": (lambda f, d: d["config"].update(size=4000), "is not of 4000 bytes"),
    "config's digest": (lambda f, d: blob(f, config_of(), body=config_of()[:-1] + b" "), "does not match its digest"),
    "many layers": (lambda f, d: d.update(layers=d["layers"] * 300), "at most 500 layers"),
    "fewer layers": (lambda f, d: d["layers"].pop(), "another number of layers"),
    "layer type": (lambda f, d: layer(d, mediaType="application/x"), "unsupported media type of a layer"),
    "no type": (lambda f, d: layer(d, mediaType=None), "has no media type"),
    "digest": (lambda f, d: layer(d, digest="sha256:../../x"), "is not a sha256 digest"),
    "md5": (lambda f, d: layer(d, digest="md5:" + "0" * 32), "is not a sha256 digest"),
    "size": (lambda f, d: layer(d, size=-1), "is not from 0 to"),
    "true": (lambda f, d: layer(d, size=True), "is not from 0 to"),
    "huge": (lambda f, d: layer(d, size=1 << 60), "is not from 0 to"),
    "layer is larger": (lambda f, d: layer(d, size=20), "is larger than the manifest says"),
    "layer is smaller": (lambda f, d: layer(d, size=4000), "is not of 4000 bytes"),
    "layer's digest": (lambda f, d: blob(f, PACKED[1], body=PACKED[1][:-1] + b"x"), "does not match its digest"),
    "encoding": (lambda f, d: blob(f, PACKED[1], headers={"Content-Encoding": "gzip"}), "unexpected content encoding"),
    "redirects": (
        lambda f, d: blob(f, PACKED[1], status=307, headers={"Location": f"/v2/x/blobs/{digest_of(PACKED[1])}"}),
        "redirects more than 5 times",
    ),
    "file": (lambda f, d: blob(f, PACKED[1], status=307, headers={"Location": "file:///etc/passwd"}), "invalid URL"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_hostile_input_is_refused_and_leaves_nothing(graph: Graph, registry: Scripted, name: str) -> None:
    change, message = REFUSED[name]
    registry.put("x", "1", hostile(change))
    refused(graph, registry, message)


def refused(graph: Graph, registry: Scripted, message: str) -> None:
    graph.bus.answers["graph_gc"] = lambda job: graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    with pytest.raises(InvalidArgument, match=message):
        pull(graph, registry)
    assert not recorded(graph)
    until(lambda: not len(graph.driver.downloads) and not graph.files())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "invalid manifest"),
        (b"[" * 100_000, "invalid manifest"),
        (b"[]", "manifest is not an object"),
        (b" " * (5 << 20), "the manifest is larger than 4194304 bytes"),
        (b"\xff\xfe", "invalid manifest"),
    ],
)
def test_manifests_that_are_none(graph: Graph, registry: Scripted, body: bytes, message: str) -> None:
    registry.files["/v2/x/manifests/1"] = Answer(body=body, headers={"Content-Type": OCI})
    refused(graph, registry, message)


def test_a_manifest_that_is_sent_as_something_else(graph: Graph, registry: Scripted) -> None:
    files = image_files(config_of(), PACKED, kind=OCI)
    registry.put("x", "1", files)
    registry.files["/v2/x/manifests/1"] = Answer(body=manifest_of(files), headers={"Content-Type": OCI_INDEX})
    refused(graph, registry, "was sent as")
    registry.files["/v2/x/manifests/1"] = Answer(
        body=manifest_of(files), headers={"Content-Type": OCI, "Docker-Content-Digest": "sha256:" + "0" * 64}
    )
    refused(graph, registry, "manifest verification failed")


def test_indexes_that_are_too_deep_or_too_long(graph: Graph, registry: Scripted) -> None:
    current_one = image_files(config_of(), PACKED, kind=OCI)
    registry.put("x", "0", current_one)
    data, kind = manifest_of(current_one), OCI
    for _ in range(6):
        answer = index_of((data, None), entry_kind=kind)
        data, kind = answer.body, OCI_INDEX
        registry.files[f"/v2/x/manifests/{digest_of(data)}"] = answer
    registry.files["/v2/x/manifests/1"] = answer
    refused(graph, registry, "nested too deeply")
    registry.files["/v2/x/manifests/1"] = index_of(*[(str(n).encode(), None) for n in range(1001)])
    refused(graph, registry, "at most 1000 entries")


def test_bombs(graph: Graph, registry: Scripted) -> None:
    graph.driver.layers.max_unpacked = 16 << 20
    registry.put("x", "1", image_files(config_of((b"?",)), [BOMB], kind=OCI))
    refused(graph, registry, "it unpacks to more than 16777216 bytes")
    header = tarfile.TarInfo("x")
    header.size = 65 << 30
    liar = gzip.compress(header.tobuf(tarfile.GNU_FORMAT))
    registry.put("x", "1", image_files(config_of((b"?",)), [liar]))
    refused(graph, registry, "more than 68719476736 bytes")


def test_a_layer_that_is_no_archive_or_another_one(graph: Graph, registry: Scripted) -> None:
    for data, message in (
        (gzip.compress(b"no archive" * 100), "invalid layer"),
        (gzip.compress(LAYERS[0])[:-8], "invalid layer: compressed data ended"),
        (gzip.compress(LAYERS[0])[:-8] + bytes(8), "cannot be unpacked: .*checksum"),
        (zstandard.compress(LAYERS[0])[:-3], "invalid layer: compressed data ended"),
        (gzip.compress(LAYERS[1]), "does not match its digest"),
    ):
        registry.put("x", "1", image_files(config_of((LAYERS[0],)), [data]))
        refused(graph, registry, message)
