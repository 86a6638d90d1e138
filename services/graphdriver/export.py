"""Export: images as one tar that is a docker archive and an OCI layout, with the blobs as they are stored."""

from __future__ import annotations

import io
import json
import socket
import tarfile
from typing import Any

from services.graphdriver.blobs import Blobs, digest_of
from shared.protocol import Descriptor, SavedImage
from shared.protocol.reference import familiar

__all__ = ["export_images"]

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def export_images(images: list[SavedImage], blobs: Blobs, connection: socket.socket) -> None:
    """Write the archive to a connection. The same images give the same bytes."""
    with connection.makefile("wb") as sink, tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        written: set[str] = set()
        docker, index = [], []
        for saved in images:
            manifest = _manifest(saved)
            for descriptor in [_config_descriptor(saved), *saved.image.layers]:
                if descriptor.digest not in written:
                    written.add(descriptor.digest)
                    _add_blob(tar, descriptor, blobs)
            _add(tar, _path(digest_of(manifest)), manifest)
            docker.append(_docker_entry(saved))
            index += _index_entries(saved, manifest)
        _add(tar, "manifest.json", json.dumps(docker).encode())
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": index}
        _add(tar, "index.json", json.dumps(document).encode())


def _docker_entry(saved: SavedImage) -> dict[str, Any]:
    return {
        "Config": _path(saved.image.id),
        "RepoTags": [familiar(tag) for tag in saved.tags],
        "Layers": [_path(layer.digest) for layer in saved.image.layers],
    }


def _index_entries(saved: SavedImage, manifest: bytes) -> list[dict[str, Any]]:
    entry = {"mediaType": MANIFEST_TYPE, "digest": digest_of(manifest), "size": len(manifest)}
    return [{**entry, "annotations": {"io.containerd.image.name": tag}} for tag in saved.tags] or [entry]


def _config_descriptor(saved: SavedImage) -> Descriptor:
    return Descriptor(media_type=CONFIG_TYPE, digest=saved.image.id, size=saved.image.config_size)


def _manifest(saved: SavedImage) -> bytes:
    def show(descriptor: Descriptor) -> dict[str, Any]:
        return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}

    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": show(_config_descriptor(saved)),
        "layers": [show(layer) for layer in saved.image.layers],
    }
    return json.dumps(document).encode()


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def _add_blob(tar: tarfile.TarFile, descriptor: Descriptor, blobs: Blobs) -> None:
    member = tarfile.TarInfo(_path(descriptor.digest))
    member.size, member.mode = descriptor.size, 0o644
    with blobs.path(descriptor.digest).open("rb") as file:
        tar.addfile(member, file)
