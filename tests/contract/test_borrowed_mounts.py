"""What the graphdriver promises of the contents of containers, on each storage driver: mounts that are borrowed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from services.graphdriver.handlers import GraphDriver
from services.graphdriver.syscalls import is_mounted
from shared.bus.tickets import redeem
from shared.protocol import (
    ExportLayer,
    LayerChanges,
    MountLayer,
    NotFound,
    ReadPath,
    RemoveLayer,
    StatPath,
    UnmountLayer,
    WritePath,
)
from tests.contract.contents import (
    base,
    tree,
    wait_until,
)
from tests.contract.test_graphdriver import CONTAINER, Graph, graph, machine

__all__ = ["graph", "machine"]

pytestmark = pytest.mark.root


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
