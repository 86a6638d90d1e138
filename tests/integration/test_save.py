"""docker save."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root


def test_an_archive_of_both_kinds(stack: Any, tmp_path: Path) -> None:
    """manifest.json for `docker load`, and an OCI image layout (image-spec 1.1) with blobs of the digests they say."""
    file = tmp_path / "images.tar"
    stack.docker("tag", "busybox", "copy:1")
    stack.docker("save", "-o", str(file), "busybox", "copy:1")
    with tarfile.open(file) as archive:
        content = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        data = {name: stream.read() for name, stream in content.items() if stream is not None}
    (manifest,) = json.loads(data["manifest.json"])
    assert sorted(manifest["RepoTags"]) == ["busybox:latest", "copy:1"]
    image = stack.out("images", "-q", "--no-trunc", "busybox")
    config = data[manifest["Config"]]
    assert f"sha256:{hashlib.sha256(config).hexdigest()}" == image
    layers = [f"sha256:{hashlib.sha256(data[name]).hexdigest()}" for name in manifest["Layers"]]
    assert layers == json.loads(config)["rootfs"]["diff_ids"]
    assert json.loads(data["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name in (name for name in data if name.startswith("blobs/sha256/")):
        assert hashlib.sha256(data[name]).hexdigest() == name.rpartition("/")[2]


def test_to_a_pipe_and_the_same_each_time(stack: Any) -> None:
    made = [
        subprocess.run(["docker", "save", "busybox"], env=stack.environ, capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert made[0] == made[1]


def test_of_none_nothing_is_written(stack: Any, tmp_path: Path) -> None:
    file = tmp_path / "images.tar"
    result = stack.docker("save", "-o", str(file), "busybox", "nobody", check=False)
    assert (result.returncode, "No such image: nobody:latest" in result.stderr) == (1, True), result.stderr
    assert not file.exists()
