"""A store on a disk that fills up: what does not fit fails in words that say so, and what is there goes on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.root
SIZE = 48  # MiB


@pytest.fixture
def small(new_stack: Any) -> Iterator[Stack]:
    stack: Stack = new_stack(DOCKER_BUILDKIT="0")
    stack.root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}m,mode=755", "tmpfs", stack.root], check=True)
    stack.start()
    stack.dockyard("busybox")
    yield stack
    if ids := stack.out("ps", "-aq").split():
        stack.docker("rm", "-f", *ids)
    stack.stop()
    subprocess.run(["umount", "--lazy", stack.root], check=True)


def graph(stack: Stack) -> list[tuple[str, int]]:
    """Return the store's files with their sizes, less the place of containers."""
    top = stack.root / "graph"
    return sorted((str(p), p.lstat().st_size) for p in top.rglob("*") if not p.is_dir() and "containers" not in p.parts)


def rootfs(size: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("random")
        member.size = size
        tar.addfile(member, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()


def test_a_disk_fills_up_and_has_room_again(small: Stack, tmp_path: Path) -> None:
    before = graph(small)
    archive = tmp_path / "big.tar"
    archive.write_bytes(rootfs(14 << 20))
    small.docker("import", str(archive), "fits")
    small.docker("save", "-o", str(tmp_path / "saved.tar"), "fits")
    archive.write_bytes(rootfs(30 << 20))
    fitting = graph(small)
    (tmp_path / "Dockerfile").write_text("FROM busybox\n")
    small.docker("run", "--name", "fills", "busybox", "dd", "if=/dev/zero", "of=/full", "bs=64k", check=False)

    for words in (
        ["import", str(archive), "big"],
        ["commit", "fills", "big"],
        ["load", "-i", str(tmp_path / "saved.tar")],
        ["build", str(tmp_path)],
    ):
        refused = small.docker(*words, check=False)
        assert refused.returncode == 1, words
        assert "no space left on device" in refused.stdout + refused.stderr, words
        until(lambda: graph(small) == fitting, what=f"left by a failed {words[0]}")
    assert {"busybox", "fits"} == set(small.out("images", "--format", "{{.Repository}}").split())

    (pid,) = small.pids("graphdriver")
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in small.pids("graphdriver") and small.pids("graphdriver"))
    small.docker("rm", "fills")
    small.docker("rmi", "fits")
    until(lambda: graph(small) == before, what="more is there than at the beginning")
    small.docker("load", "-i", str(tmp_path / "saved.tar"))
    assert small.out("run", "--rm", "busybox", "echo", "room again") == "room again"
