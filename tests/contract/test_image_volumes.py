"""What containers mount of images, on each storage driver: for reading, one mount for all, none after the last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.graphdriver.handlers import GraphDriver
from shared.protocol import (
    DockyardError,
    HeldVolume,
    Image,
    InvalidArgument,
    ListHeldVolumes,
    MakeVolume,
    MountVolume,
    NotFound,
    UnmountVolume,
)
from tests.contract.contents import base
from tests.contract.test_graphdriver import CONTAINER, Graph, config_of, docker_archive, graph

__all__ = ["graph"]
pytestmark = pytest.mark.root
OTHER = "e" * 64


def mount(graph: Graph, image: Image, container: str = CONTAINER, *subpaths: str) -> dict[str, Path]:
    name, layers = image.id.removeprefix("sha256:"), {"layers": " ".join(image.chain_ids)}
    job = MountVolume(name=name, driver="image", container=container, options=layers, subpaths=list(subpaths))
    return {subpath: Path(path) for subpath, path in graph.do(job).items()}


def unmount(graph: Graph, image: Image, container: str = CONTAINER, *, last: bool) -> None:
    name = image.id.removeprefix("sha256:")
    graph.do(UnmountVolume(name=name, driver="image", container=container, last=last))


def test_one_mount_for_all_until_the_last_has_gone(graph: Graph) -> None:
    image = base(graph)
    first, second = mount(graph, image), mount(graph, image, OTHER)
    assert first == second
    assert (first[""] / "old/sub/c").read_text() == "c"
    unmount(graph, image, last=False)
    assert (second[""] / "kept").read_text() == "k"
    unmount(graph, image, OTHER, last=True)
    unmount(graph, image, OTHER, last=True)
    assert graph.do(ListHeldVolumes()) == []
    assert not list((graph.config.run / "images").iterdir())
    assert (mount(graph, image)[""] / "kept").exists()  # vfs: unmounted is not removed
    unmount(graph, image, last=True)


def test_a_part_of_it_is_held_for_a_container(graph: Graph) -> None:
    image = base(graph)
    found = mount(graph, image, CONTAINER, "old/sub", "kept")
    assert (found["old/sub"] / "c").read_text() == "c"
    assert found["kept"].read_text() == "k"
    with pytest.raises(NotFound, match="cannot access path"):
        mount(graph, image, OTHER, "nowhere")
    with pytest.raises(InvalidArgument, match="escapes the base directory"):
        mount(graph, image, OTHER, "old/../../x")
    unmount(graph, image, OTHER, last=False)
    unmount(graph, image, last=True)
    assert graph.do(ListHeldVolumes()) == []


def test_after_a_kill_it_is_there_and_known(graph: Graph) -> None:
    image = base(graph)
    found = mount(graph, image, CONTAINER, "old")
    graph.driver = GraphDriver(graph.config, graph.bus)
    held = HeldVolume(name=image.id.removeprefix("sha256:"), driver="image", containers=[CONTAINER])
    assert graph.do(ListHeldVolumes()) == [held]
    assert (found["old"] / "a").read_text() == "a"
    assert mount(graph, image, CONTAINER, "old") == found
    unmount(graph, image, last=True)
    assert graph.do(ListHeldVolumes()) == []


def test_overlayfs_lets_nobody_write(graph: Graph) -> None:
    image = base(graph)
    path = mount(graph, image)[""]
    if graph.driver.layers.driver.name == "overlay":
        with pytest.raises(OSError, match="Read-only file system"):
            (path / "new").touch()
    assert os.access(path / "etc/passwd", os.R_OK)
    unmount(graph, image, last=True)


def test_one_without_layers_is_empty_and_missing_layers_are_an_error(graph: Graph) -> None:
    (image,) = graph.load(docker_archive(config_of(()), [], ["scratch:1"]))
    assert mount(graph, image)[""].is_dir()
    unmount(graph, image, last=True)
    job = MountVolume(name="a" * 64, driver="image", container=CONTAINER, options={"layers": "sha256:" + "f" * 64})
    with pytest.raises(DockyardError, match="no such layer"):
        graph.do(job)
    graph.do(UnmountVolume(name="a" * 64, driver="image", container=CONTAINER, last=True))


def test_no_volume_of_a_user_is_of_this_driver(graph: Graph) -> None:
    with pytest.raises(NotFound, match='plugin "image" not found'):
        graph.do(MakeVolume(name="mine", driver="image"))
