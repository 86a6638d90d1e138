"""kill -9 at each step, and a disk that is full at each: after the next boot there is on disk what is on record.

What the graphdriver does is done by children of `crashing`. A boot is a new graphdriver, and the collection that the
engine asks for when it has come.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.graphdriver.syscalls import mount, unmount
from tests.contract.crashing import OPERATIONS, records_of

pytestmark = pytest.mark.root
MS_REMOUNT = 32
Order = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def order() -> Iterator[Order]:
    """What has something done: order(root, driver, operation, step=0) → the answer."""
    command = [sys.executable, "-m", "tests.contract.crashing"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def give(root: Path, driver: str, operation: str, step: int = 0) -> dict[str, Any]:
            root.with_name("run").mkdir(exist_ok=True)
            line = {"root": str(root), "driver": driver, "operation": operation, "step": step}
            print(json.dumps(line), file=process.stdin, flush=True)
            answer: dict[str, Any] = json.loads(process.stdout.readline())  # type: ignore[union-attr]
            return answer

        yield give
        process.stdin.close()


def records(root: Path) -> Path:
    return root.with_name(f"{root.name}.records")


def check(root: Path, driver: str) -> dict[str, Any]:
    """Assert that a store holds what its records name, whole, and nothing else; returns what that is."""
    graph, images = root / "graph", records_of(records(root))
    digests = {image.id for image in images} | {layer.digest for image in images for layer in image.layers}
    digests |= {image.manifest.digest for image in images if image.manifest is not None}
    blobs = {f"sha256:{path.name}": path for path in (graph / "blobs/sha256").iterdir()}
    assert set(blobs) == digests
    for digest, path in blobs.items():
        assert f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == digest
    chains = {chain.removeprefix("sha256:")[:12] for image in images for chain in image.chain_ids}
    layers = {path.name: path for path in (graph / driver).iterdir()}
    assert set(layers) == chains
    for place in ("tmp", "containers"):
        assert not list((graph / place).iterdir())
    assert str(root) not in Path("/proc/mounts").read_text().replace(f" {root} ", " ")
    return {name: contents(path) for name, path in layers.items()}


def contents(layer: Path) -> dict[str, Any]:
    """Return a layer's files: name → (mode, owner, device, bytes or target, overlayfs's mark)."""
    return {str(path.relative_to(layer)): _content(path) for path in sorted(layer.rglob("*"))}


def _content(path: Path) -> tuple[Any, ...]:
    status = path.lstat()
    data = path.read_bytes() if path.is_file() else str(path.readlink()) if path.is_symlink() else ""
    return status.st_mode, status.st_uid, status.st_rdev, data, sorted(os.listxattr(path, follow_symlinks=False))


def some(steps: int, driver: str) -> range:
    """Return the steps to be tried: all with ``CRASH_STRIDE=1`` (`make crashes`); vfs goes the same ways as overlay."""
    stride = int(os.environ.get("CRASH_STRIDE", "5" if driver == "overlay" else "20"))
    return range(1 + steps % stride, steps + 1, stride)


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_kill_9_at_each_step(order: Order, tmp_path: Path, driver: str, operation: str) -> None:
    whole = tmp_path / "whole/root"
    whole.parent.mkdir()
    steps = order(whole, driver, operation)["steps"]
    assert steps > 10
    wanted = check(whole, driver)
    for step in some(steps, driver):
        root = tmp_path / f"{step}/root"
        root.parent.mkdir()
        assert order(root, driver, operation, step) == {"killed": True}, step
        assert order(root, driver, "")["steps"] == 0
        left = check(root, driver)
        assert all(wanted.get(name, layer) == layer for name, layer in left.items())
        records(root).unlink(missing_ok=True)
        assert "steps" in order(root, driver, operation), "after that it works"
        assert check(root, driver) == wanted


# what a tmpfs without inodes left, or without room, looks like is what any full disk does: ENOSPC
@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Give a store on a file system of its own with limits, as ``nr_inodes=40``; once more: change the limits."""
    root = tmp_path / "small/root"

    def make(limits: str) -> Path:
        mounted = root.is_mount()
        root.mkdir(parents=True, exist_ok=True)
        mount("tmpfs", root, "tmpfs", f"mode=755,{limits}", MS_REMOUNT if mounted else 0)
        return root

    yield make
    while root.is_mount():
        unmount(root)


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "remove"])
def test_a_full_disk_at_each_step(order: Order, small: Callable[[str], Path], tmp_path: Path, operation: str) -> None:
    """The operation fails in words that say so; nothing is left of it, and with room it works."""
    whole = tmp_path / "whole/root"
    whole.parent.mkdir()
    assert "steps" in order(whole, "overlay", operation)
    wanted, needed = check(whole, "overlay"), 0
    failures = set()
    for limits in limits_of(whole):
        root = small(limits)
        answer = order(root, "overlay", operation)
        if "steps" in answer:
            needed += 1
        else:
            assert answer["code"] == "internal", answer
            assert "no space left on device" in answer["message"], answer
            failures.add(answer["message"])
            assert order(root, "overlay", "")["steps"] == 0
            check(root, "overlay")
            records(root).unlink(missing_ok=True)
            small("nr_inodes=0,size=0")
            assert "steps" in order(root, "overlay", operation), "with room it works"
        assert check(root, "overlay") == wanted
        unmount(root)
        records(root).unlink(missing_ok=True)
    assert failures
    assert needed


def limits_of(whole: Path) -> list[str]:
    """Return limits from too little for anything to enough for all."""
    stride = int(os.environ.get("CRASH_STRIDE", "4"))
    inodes = [f"nr_inodes={count},size=0" for count in range(14, 60, stride)]
    sizes = [f"size={4096 * count},nr_inodes=0" for count in range(1, 40, stride)]
    return [*inodes, *sizes, "size=100m,nr_inodes=0"]
