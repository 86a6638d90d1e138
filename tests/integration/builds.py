"""Builds with the classic builder: `DOCKER_BUILDKIT=0 docker build`, and the API as docker-py uses it."""

from __future__ import annotations

import http.client
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.integration.api import Connection

__all__ = ["build", "context_tar", "post_build", "write"]


def write(directory: Path, files: dict[str, str]) -> Path:
    """Write files; a name that ends in a slash is a directory."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(content)
    return directory


def build(stack: Any, dockerfile: str, *options: str, check: bool = True, **files: str) -> Any:
    """Build an image called ``made`` from a Dockerfile and files (``__`` in a name is a dot); returns the process."""
    with tempfile.TemporaryDirectory() as place:
        named = {name.replace("__", "."): content for name, content in files.items()}
        directory = write(Path(place), {"Dockerfile": dockerfile, **named})
        return build_in(stack, directory, "-t", "made", *options, check=check)


def build_in(stack: Any, directory: Path, *options: str, check: bool = True) -> Any:
    environ, stack.environ = stack.environ, {**stack.environ, "DOCKER_BUILDKIT": "0"}
    try:
        return stack.docker("build", *options, str(directory), check=check)
    finally:
        stack.environ = environ


def context_tar(files: dict[str, str | tarfile.TarInfo]) -> bytes:
    """Return a tar of files, or of members as they are given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


def post_build(stack: Any, query: str, body: bytes = b"", **headers: str) -> tuple[int, list[dict[str, Any]]]:
    """POST /build; returns the status and all messages."""
    connection = Connection(stack)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", f"/v1.44/build?{query}", body, {"Content-Type": "application/x-tar", **named})
        answer: http.client.HTTPResponse = connection.getresponse()
        return answer.status, [json.loads(line) for line in answer.read().splitlines() if line]
    finally:
        connection.close()
