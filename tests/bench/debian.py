"""The image that the bench moves about: layers of the files of this Debian's own packages, as a docker archive.

The first two layers are its required and its other standard packages; two more are of the largest optional ones that
are small enough, so that there are large files too. Each is a gzip'ed tar.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from pathlib import Path

__all__ = ["NAME", "make_archive"]

NAME = "bench-debian"
OPTIONAL = 60 << 10  # KiB of installed size in each layer of optional packages
SMALL = 30 << 10
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def make_archive(path: Path) -> list[Path]:
    """Write the archive, and beside it the layers, each with its .diff_id; returns the layers, bottom first."""
    layers = [_layer(path.parent / f"layer{number}.tar.gz", names) for number, names in enumerate(_packages())]
    diff_ids = [_digest_of_plain(layer) for layer in layers]
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        layer.with_suffix(".diff_id").write_text(diff_id)
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {"Cmd": ["bash"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": layer.name} for layer in layers],
        }
    ).encode()
    names = [f"{diff_id.removeprefix('sha256:')}/layer.tar" for diff_id in diff_ids]
    manifest = [{"Config": "config.json", "RepoTags": [f"{NAME}:latest"], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        for name, data in (("manifest.json", json.dumps(manifest).encode()), ("config.json", config)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, layer in zip(names, layers, strict=True):
            archive.add(layer, name)
    return layers


def _packages() -> list[list[str]]:
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f=${Priority} ${Installed-Size} ${binary:Package}\n"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [line.split() for line in answer.stdout.splitlines() if len(line.split()) == 3]
    groups = [
        [name for priority, _, name in found if priority == "required"],
        [name for priority, _, name in found if priority in ("important", "standard")],
    ]
    rest = sorted((-int(size), name) for priority, size, name in found if priority == "optional" and int(size) < SMALL)
    for _ in range(2):
        taken, size = [], 0
        while rest and size < OPTIONAL:
            negative, name = rest.pop(0)
            taken.append(name)
            size -= negative
        groups.append(taken)
    return groups


def _layer(path: Path, packages: list[str]) -> Path:
    answer = subprocess.run(["dpkg-query", "-L", *packages], capture_output=True, text=True, check=True)
    names = sorted(
        {_real(line) for line in answer.stdout.splitlines() if line.startswith("/") and os.path.lexists(line)}
    )
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as layer,
    ):
        for name in names:
            layer.add(name, recursive=False, filter=_whole_seconds)
    return path


def _real(name: str) -> str:
    """Return the name of a file by no links: dpkg's lists say /bin/sh where there is but /usr/bin."""
    path = Path(name)
    return str(path.parent.resolve() / path.name)


def _whole_seconds(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """As Docker's layers are; with a fraction each file has a PAX header."""
    member.mtime = int(member.mtime)
    return member


def _digest_of_plain(path: Path) -> str:
    hasher = hashlib.sha256()
    with gzip.open(path) as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return f"sha256:{hasher.hexdigest()}"
