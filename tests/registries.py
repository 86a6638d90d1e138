"""Registries for tests: Debian's docker-registry on loopback, and an HTTP server that does as it is told."""

from __future__ import annotations

import ctypes
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from services.graphdriver.blobs import digest_of

__all__ = ["PASSWORD", "USER", "Answer", "Request", "Scripted", "docker_registry", "image_files", "scripted"]

USER, PASSWORD = "me", "correct horse"
HTPASSWD = f"{USER}:$2b$04$LZFlM3sp67K9ugJZIwnnQuMyV1WBtCQWW8tLYWZqQlMXGLbt09YMK\n"
CLONE_NEWNET = 0x40000000
T = TypeVar("T")
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


@contextmanager
def docker_registry(
    directory: Path,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    password: bool = False,
    certificates: Path | None = None,
    client_ca: bool = False,
    inside: Sequence[str] = (),
) -> Iterator[str]:
    """Run a registry; yields its host:port. ``inside``: words before the command, as nsenter's."""
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    settings: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"{address}:{port}", "secret": "for tests"},
    }
    if password:
        (directory / "htpasswd").write_text(HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
    if certificates is not None:
        tls = {"certificate": str(certificates / "server-cert.pem"), "key": str(certificates / "server-key.pem")}
        settings["http"]["tls"] = {**tls, **({"clientcas": [str(certificates / "ca.pem")]} if client_ca else {})}
    (directory / "config.yml").write_text(json.dumps(settings))
    with (directory / "log").open("wb") as log:
        command = [*inside, "docker-registry", "serve", str(directory / "config.yml")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not listens(process.pid, port):
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, "the registry does not listen"
            time.sleep(0.02)
        yield f"{address}:{port}"
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(pid: int, port: int) -> bool:
    """Say whether something listens on a port in the network namespace of a process."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return any(int(words[1].rpartition(":")[2], 16) == port and words[3] == "0A" for words in lines)


# -- a server that does as it is told


@dataclass
class Request:
    method: str
    path: str
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class Answer:
    """``cut``: how many bytes of the body are sent before the connection is closed."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    wait: threading.Event | None = None  # with ``cut``: what is waited for before the end


Handle = Callable[[Request], Answer | None]


class Scripted:
    """``files``: path → answer. ``handle`` is asked first; None leaves it to the files. ``requests``: what came."""

    def __init__(self) -> None:
        self.files: dict[str, Answer] = {}
        self.handle: Handle = lambda request: None
        self.requests: list[Request] = []
        self.host = ""

    def put(self, name: str, tag: str, files: dict[str, Answer]) -> str:
        """Serve an image made by `image_files`; returns the digest of its manifest."""
        for path, answer in files.items():
            self.files[f"/v2/{name}/{path}"] = answer
        manifest = next(answer for path, answer in files.items() if path.startswith("manifests/"))
        self.files[f"/v2/{name}/manifests/{tag}"] = manifest
        return digest_of(manifest.body)

    def asked(self, part: str) -> list[Request]:
        return [request for request in self.requests if part in request.path]


def inside_network_of(pid: int, make: Callable[[], T]) -> T:
    """Call something in the network namespace of a process: a socket stays where it was made."""

    def enter() -> T:
        with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
            assert ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET) == 0
        return make()

    with ThreadPoolExecutor(1) as executor:  # the thread ends, and with it the visit
        return executor.submit(enter).result()


@contextmanager
def scripted(context: ssl.SSLContext | None = None, network_of: int = 0) -> Iterator[Scripted]:
    """``network_of``: the process in whose network namespace it listens, 0 for our own."""
    served = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, self.headers, body)
            served.requests.append(request)
            found = served.handle(request) or served.files.get(self.path.partition("?")[0]) or Answer(404)
            self.send_response(found.status)
            for name, value in {"Content-Length": str(len(found.body)), **found.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body if found.cut is None else found.body[: found.cut])
            if found.cut is not None:
                self.wfile.flush()
                if found.wait is not None:
                    found.wait.wait(30)
                self.close_connection = True

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.do_GET
            raise AttributeError(name)

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (OSError, ssl.SSLError):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            return

    def make() -> Server:
        return Server(("127.0.0.1", 0), Handler)

    with inside_network_of(network_of, make) if network_of else make() as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        served.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def image_files(config: bytes, layers: list[bytes], *, kind: str = DOCKER, **changes: Any) -> dict[str, Answer]:
    """Make a repository's files of an image: path after /v2/NAME/ → answer. ``changes`` go into the manifest."""
    oci = kind != DOCKER
    config_type = (
        "application/vnd.oci.image.config.v1+json" if oci else "application/vnd.docker.container.image.v1+json"
    )
    plain = "application/vnd.oci.image.layer.v1.tar" if oci else "application/vnd.docker.image.rootfs.diff.tar"

    def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def packed(data: bytes) -> str:
        mark = "gzip" if data.startswith(b"\x1f\x8b") else "zstd" if data.startswith(b"\x28\xb5") else ""
        return plain + (("+" if oci else ".") + mark if mark else "")

    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": descriptor(config, config_type),
        "layers": [descriptor(data, packed(data)) for data in layers],
        **changes,
    }
    data = json.dumps(document).encode()
    files = {f"manifests/{digest_of(data)}": Answer(body=data, headers={"Content-Type": kind})}
    return files | {f"blobs/{digest_of(blob)}": Answer(body=blob) for blob in (config, *layers)}
