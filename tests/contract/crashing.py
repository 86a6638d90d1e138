"""A process whose children do the graphdriver's work, and are killed at a step of it that is asked for.

A step is whatever Python tells its audit hooks of what changes a file system, and the engine's record. Orders come as
lines of JSON, answers go as such. It has no threads of its own, so that it may fork.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from services.graphdriver.handlers import GraphDriver
from shared.bus.bus import FakeBus
from shared.protocol import (
    CommitLayer,
    CreateLayer,
    DockyardError,
    GraphCollect,
    Image,
    Job,
    MountLayer,
    RemoveLayer,
    SetImage,
)
from shared.runtime.config import Config
from shared.runtime.reasons import reason
from tests.contract.contents import new_image
from tests.contract.pulls import PACKED, pull
from tests.contract.test_graphdriver import CONTAINER, Graph, config_of, docker_archive, oci_layout, tar
from tests.registries import image_files, scripted

__all__ = ["OPERATIONS", "records_of"]

CHANGES = {
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.setxattr", "os.symlink",
    "os.truncate", "os.utime",
}  # fmt: skip
OTHER = (tar({"other": b"o" * 5000}),)


class Steps:
    """Counts steps from `begin` on; at number ``last`` the process is killed, before the step is done."""

    def __init__(self, last: int) -> None:
        self.last, self.count, self.counting = last, 0, False
        self.lock = threading.Lock()
        sys.addaudithook(self._heard)

    def begin(self) -> None:
        self.counting = True

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and (arguments[2] or 0) & (os.O_CREAT | os.O_TRUNC)):
            self.step()

    def step(self) -> None:
        if self.counting:
            with self.lock:  # layers are unpacked by several threads
                self.count += 1
                if self.count == self.last:
                    os.kill(os.getpid(), signal.SIGKILL)


class Engine(FakeBus):
    """Records images in a file, which outlives who made them."""

    def __init__(self, root: Path, steps: Steps) -> None:
        super().__init__({"image_get": {}})
        self._path, self._steps = root.with_name(f"{root.name}.records"), steps

    def call(self, job: Job[Any], *arguments: Any, **options: Any) -> Any:
        if isinstance(job, SetImage):
            self._steps.step()
            known = {image.id: image for image in records_of(self._path)}
            self._path.write_bytes(msgspec.json.encode([*{**known, job.image.id: job.image}.values()]))
            self._steps.step()
        return super().call(job, *arguments, **options)


def records_of(path: Path) -> list[Image]:
    """Return the images on record beside a store."""
    return msgspec.json.decode(path.read_bytes(), type=list[Image]) if path.exists() else []


def _load(graph: Graph, begin: Callable[[], None]) -> None:
    begin()
    graph.load(oci_layout(config_of(), PACKED, "example.test/x:1"))


def _load_plain(graph: Graph, begin: Callable[[], None]) -> None:
    begin()
    graph.load(gzip.compress(docker_archive(config_of(OTHER), list(OTHER), ["y:1"])))


def _pull(graph: Graph, begin: Callable[[], None]) -> None:
    with scripted() as registry:
        registry.put("x", "1", image_files(config_of(), PACKED))
        begin()
        pull(graph, registry)


@contextmanager
def _written_inside() -> Iterator[None]:
    """A full disk is told to whoever writes in the container."""
    try:
        yield
    except OSError as error:
        raise DockyardError(reason(error)) from error


def _commit(graph: Graph, begin: Callable[[], None]) -> None:
    (parent,) = graph.load(docker_archive(config_of(), PACKED, ["x:1"]))
    root = graph.mounted(parent)
    with _written_inside():
        (root / "new").write_bytes(b"n" * 3000)
        (root / "etc/one").unlink()
        for path in (root / "new", root / "etc", root):
            os.utime(path, (0, 0))  # so that the layer is the same each time
    begin()
    graph.do(CommitLayer(container=CONTAINER, image=new_image(parent)))
    graph.do(RemoveLayer(container=CONTAINER))


def _remove(graph: Graph, begin: Callable[[], None]) -> None:
    """As the engine removes an image: its record first."""
    graph.load(docker_archive(config_of(), PACKED, ["x:1"]))
    graph.load(docker_archive(config_of(OTHER), list(OTHER), ["y:1"]))
    path = graph.config.root.with_name(f"{graph.config.root.name}.records")
    kept = records_of(path)[1:]
    path.write_bytes(msgspec.json.encode(kept))
    begin()
    graph.do(GraphCollect(keep_names=[name for image in kept for name in image.names], keep_containers=[]))


def _container(graph: Graph, begin: Callable[[], None]) -> None:
    (image,) = graph.load(docker_archive(config_of(), PACKED, ["x:1"]))
    begin()
    graph.do(CreateLayer(container=CONTAINER, chain_ids=image.chain_ids))
    root = Path(graph.do(MountLayer(container=CONTAINER)))
    with _written_inside():
        (root / "mine").write_text("m")
    graph.do(RemoveLayer(container=CONTAINER))


OPERATIONS: dict[str, Callable[[Graph, Callable[[], None]], None]] = {
    "load": _load,
    "load_plain": _load_plain,
    "pull": _pull,
    "commit": _commit,
    "remove": _remove,
    "container": _container,
}


def perform(order: dict[str, Any]) -> dict[str, Any]:
    """Boot on a store, and do an operation (none: but the collection of a boot)."""
    steps, root = Steps(order["step"]), Path(order["root"])
    config = Config(root=root, run=root.with_name("run"), storage_driver=order["driver"])
    graph = Graph.__new__(Graph)
    graph.config, graph.bus, graph.progress = config, Engine(root, steps), []
    graph.driver = GraphDriver(config, graph.bus)
    images = records_of(root.with_name(f"{root.name}.records"))
    graph.do(GraphCollect(keep_names=[name for image in images for name in image.names], keep_containers=[]))
    try:
        if order["operation"]:
            OPERATIONS[order["operation"]](graph, steps.begin)
    except DockyardError as error:
        return {"code": error.code, "message": str(error)}
    return {"steps": steps.count}


def main() -> None:
    os.umask(0o077)
    platform.machine = lambda: "x86_64"
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            answer = json.dumps(perform(json.loads(line))).encode()
            os.write(writer, answer)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answered:
            data = answered.read()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(json.dumps({"killed": True} if killed else json.loads(data or b'{"code": "crashed"}')), flush=True)


if __name__ == "__main__":
    main()
