"""What the tests of containers' contents share: an image to begin with, and jobs as their callers do them."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import threading
import time
from collections.abc import Callable
from typing import Any

from shared.bus.context import Context, current
from shared.bus.tickets import deliver
from shared.protocol import (
    CommitLayer,
    ContainerConfig,
    ContainerTree,
    Header,
    Image,
    LayerChanges,
    NewImage,
    Output,
    ReadPath,
    SetImage,
    Ticket,
    WritePath,
)
from tests.contract.test_graphdriver import CONTAINER, Graph, config_of, docker_archive, receive, tar

__all__ = [
    "BASE",
    "OTHER",
    "base",
    "commit",
    "full_disk",
    "get",
    "members",
    "new_image",
    "put",
    "recorded",
    "sender",
    "told",
    "tree",
    "upload",
    "wait_until",
]

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


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def get(graph: Graph, path: str, **fields: Any) -> bytes:
    return receive(graph.do(ReadPath(tree=fields.pop("tree", tree()), path=path)).ticket)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def full_disk(_: int) -> None:
    raise OSError(28, "No space left on device")
