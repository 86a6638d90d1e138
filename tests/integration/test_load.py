"""docker load."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

pytestmark = pytest.mark.root
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.fixture
def saved(stack: Any, tmp_path: Path) -> Path:
    """An archive of `one` and `two`, which are not here any more."""
    for name in ("one", "two"):
        stack.docker("run", "--name", name, "busybox", "sh", "-c", f"echo {name} > /name")
        stack.docker("commit", name, name)
        stack.docker("rm", name)
    stack.docker("save", "-o", str(tmp_path / "two.tar"), "one", "two")
    stack.docker("rmi", "one", "two")
    return tmp_path / "two.tar"


def test_several_images_from_a_file_and_from_a_pipe(stack: Any, saved: Path) -> None:
    said = {"Loaded image: one:latest", "Loaded image: two:latest"}
    assert said <= set(stack.out("load", "-i", str(saved)).splitlines())
    assert [stack.out("run", "--rm", name, "cat", "/name") for name in ("one", "two")] == ["one", "two"]
    stack.docker("rmi", "one", "two")
    with saved.open("rb") as stream:
        result = subprocess.run(
            ["docker", "load", "-q"], env=stack.environ, stdin=stream, capture_output=True, text=True, check=False
        )
    assert (result.returncode, set(result.stdout.splitlines())) == (0, said), result.stderr


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_compressed_one(stack: Any, saved: Path, name: str) -> None:
    saved.write_bytes(COMPRESSORS[name](saved.read_bytes()))
    assert "Loaded image: one:latest" in stack.out("load", "-i", str(saved))


@pytest.mark.parametrize("cut", [0, 1, 100, 512, 10_000, 1_000_000])
def test_a_part_of_one_is_refused_and_leaves_nothing(stack: Any, saved: Path, cut: int) -> None:
    before = stack.out("images", "-aq", "--no-trunc")
    saved.write_bytes(saved.read_bytes()[:cut])
    result = stack.docker("load", "-i", str(saved), check=False)
    assert (result.returncode, bool(result.stderr)) == (1, True), result.stdout
    assert stack.out("images", "-aq", "--no-trunc") == before


def test_what_is_no_archive(stack: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"this is no archive" * 100)
    result = stack.docker("load", "-i", str(broken), check=False)
    assert (result.returncode, "invalid archive" in result.stderr) == (1, True), result.stderr
