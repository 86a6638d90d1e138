"""`docker load --platform`: what alone is loaded of an archive with images for several."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.graphdriver.blobs import digest_of
from shared.protocol import InvalidArgument
from tests.contract.test_graphdriver import LAYERS, Graph, config_of, graph, machine, tar

__all__ = ["graph", "machine"]

pytestmark = [pytest.mark.root, pytest.mark.parametrize("graph", ["overlay"], indirect=True)]

CONFIGS = {name: config_of().replace(b"amd64", name.encode()) for name in ("amd64", "arm64", "riscv64")}


def docker_archive() -> bytes:
    layers = {f"{number}.tar": data for number, data in enumerate(LAYERS)}
    manifest = [{"Config": name, "RepoTags": [f"{name}:1"], "Layers": [*layers]} for name in CONFIGS]
    return tar({"manifest.json": json.dumps(manifest).encode(), **CONFIGS, **layers})


def oci_layout(*, with_platforms: bool) -> bytes:
    blobs: dict[str, bytes] = {}

    def descriptor(data: bytes, **more: Any) -> dict[str, Any]:
        blobs[f"blobs/sha256/{digest_of(data)[7:]}"] = data
        return {"digest": digest_of(data), "size": len(data), **more}

    entries = []
    for name, config in CONFIGS.items():
        manifest = {"config": descriptor(config), "layers": [descriptor(layer) for layer in LAYERS]}
        platform = {"platform": {"os": "linux", "architecture": name}} if with_platforms else {}
        entries.append(descriptor(json.dumps(manifest).encode(), **platform))
    return tar({"index.json": json.dumps({"manifests": entries}).encode(), **blobs})


ARCHIVES = [docker_archive(), oci_layout(with_platforms=True), oci_layout(with_platforms=False)]


@pytest.mark.parametrize("archive", ARCHIVES)
def test_the_one_that_is_asked_for(graph: Graph, archive: bytes) -> None:
    (image,) = graph.load(archive, platform="linux/arm64/v8")
    assert (image.architecture, image.id) == ("arm64", digest_of(CONFIGS["arm64"]))


@pytest.mark.parametrize("archive", ARCHIVES)
def test_one_that_is_not_there_is_told_of(graph: Graph, archive: bytes) -> None:
    with pytest.raises(InvalidArgument, match="invalid archive: no image for linux/s390x"):
        graph.load(archive, platform="linux/s390x")
    assert not graph.bus.calls
