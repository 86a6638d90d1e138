"""What the tests of pulls and pushes share: jobs as their callers do them, and a registry that does as it is told."""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.graphdriver.blobs import digest_of
from services.graphdriver.registry.handlers import jobs
from shared.bus.context import Context, current
from shared.protocol import (
    Header,
    Image,
    PullImage,
    SetImage,
)
from tests.contract.test_graphdriver import LAYERS, Graph, tar
from tests.registries import Answer, Scripted, scripted

__all__ = [
    "BIG",
    "DOCKER_INDEX",
    "OCI",
    "OCI_INDEX",
    "PACKED",
    "do",
    "index_of",
    "manifest_of",
    "pull",
    "recorded",
    "registry",
    "statuses",
    "until",
]

OCI = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
PACKED = [gzip.compress(layer, mtime=0) for layer in LAYERS]
BIG = tar({f"file{n}": os.urandom(1 << 16) for n in range(40)})  # 2.6 MiB that do not compress


@pytest.fixture
def registry() -> Iterator[Scripted]:
    with scripted() as served:
        yield served


def do(graph: Graph, job: Any, cancelled: threading.Event | None = None, lines: list[Any] | None = None) -> Any:
    """Call a job as its caller would; returns the result. ``lines`` gets the progress."""
    told = graph.progress if lines is None else lines
    context = Context(Header(id="1"), lambda output: told.append(json.loads(output.text)))
    if cancelled is not None:
        context.cancelled = cancelled
    token = current.set(context)
    try:
        return jobs[job.__struct_config__.tag](graph.driver, job)
    finally:
        current.reset(token)


def pull(graph: Graph, registry: Scripted, name: str = "x", tag: str = "1", **options: Any) -> Image:
    known = len(recorded(graph))
    graph.bus.answers.setdefault("image_get", {})
    do(graph, PullImage(image=f"{registry.host}/{name}", tag=tag, **options))
    (call,) = recorded(graph)[known:]
    return call.image


def recorded(graph: Graph) -> list[SetImage]:
    return [call for call in graph.bus.calls if isinstance(call, SetImage)]


def statuses(graph: Graph) -> list[str]:
    return [line.get("status", "") for line in graph.progress]


def index_of(*entries: tuple[bytes, dict[str, Any] | None], kind: str = OCI_INDEX, entry_kind: str = OCI) -> Answer:
    manifests = [
        {"mediaType": entry_kind, "digest": digest_of(data), "size": len(data), **({"platform": p} if p else {})}
        for data, p in entries
    ]
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode()
    return Answer(body=body, headers={"Content-Type": kind})


def manifest_of(files: dict[str, Answer]) -> bytes:
    return next(answer.body for path, answer in files.items() if path.startswith("manifests/"))


def until(condition: Callable[[], Any], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
