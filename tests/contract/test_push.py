"""What a push and a login promise: against Debian's docker-registry, and a registry that does as it is told."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from services.graphdriver.blobs import digest_of
from services.graphdriver.handlers import GraphDriver
from services.graphdriver.registry.transport import Unreachable
from shared.protocol import (
    AuthConfig,
    Authenticate,
    Cancelled,
    DockyardError,
    GraphCollect,
    Image,
    InspectDistribution,
    NotFound,
    PullImage,
    PushableImage,
    PushImage,
    SearchImages,
    Unauthorized,
)
from shared.runtime.config import Config
from tests.certificates import make_certificates
from tests.contract.pulls import BIG, do, recorded, registry, statuses, until
from tests.contract.test_graphdriver import LAYERS, Graph, config_of, docker_archive, graph, machine
from tests.registries import (
    PASSWORD,
    USER,
    Answer,
    Request,
    Scripted,
    docker_registry,
    free_port,
    image_files,
    scripted,
)

__all__ = ["graph", "machine", "registry"]

pytestmark = [pytest.mark.root, pytest.mark.parametrize("graph", ["overlay"], indirect=True)]
CREDENTIALS = AuthConfig(username=USER, password=PASSWORD)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path / "registry") as host:
        yield host


def loaded(graph: Graph, layers: tuple[bytes, ...] = LAYERS, pack: Any = bytes) -> Image:
    (image,) = graph.load(docker_archive(config_of(layers), [pack(layer) for layer in layers], ["x:1"]))
    return image


def push(graph: Graph, image: Image, host: str, name: str = "x", tag: str = "1", **options: Any) -> list[Any]:
    mounts = options.pop("mounts", {})
    graph.bus.answers["image_pushable"] = [PushableImage(image=image, tag=tag, mounts=mounts)]
    lines: list[Any] = []
    do(graph, PushImage(image=f"{host}/{name}", tag=tag, **options), lines=lines)
    return lines


def pull(graph: Graph, host: str, name: str = "x", **options: Any) -> Image:
    graph.bus.answers["image_get"] = {}
    do(graph, PullImage(image=f"{host}/{name}", tag="1", **options))
    return recorded(graph)[-1].image


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_what_is_pushed_is_pulled(graph: Graph, real: str, pack: Any) -> None:
    image = loaded(graph, pack=pack)
    lines = push(graph, image, real)
    said = [line.get("status") for line in lines]
    assert said[0] == f"The push refers to repository [{real}/x]"
    assert {"Preparing", "Pushing", "Pushed"} <= set(said)
    assert {line["id"] for line in lines if line.get("status") == "Pushed"} == {d[7:19] for d in image.diff_ids}
    digest, size = lines[-1]["aux"]["Digest"], lines[-1]["aux"]["Size"]
    assert said[-2] == f"1: digest: {digest} size: {size}"
    assert recorded(graph)[-1].tags == [f"{real}/x:1", f"{real}/x@{digest}"]
    graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    again = pull(graph, real)
    assert (again.id, again.diff_ids) == (image.id, image.diff_ids)
    assert recorded(graph)[-1].tags == [f"{real}/x:1", f"{real}/x@{digest}"]


def test_only_what_is_for_a_platform_is_pushed(graph: Graph, real: str) -> None:
    image = loaded(graph)
    why = rf"image with reference {real}/x:1 was found but its platform \(linux/amd64\) does not match .*s390x"
    with pytest.raises(NotFound, match=why):
        push(graph, image, real, platform="linux/s390x")
    assert push(graph, image, real, platform="linux/amd64")[-1]["aux"]["Tag"] == "1"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_how_many_at_a_time(graph: Graph, real: str, count: int) -> None:
    remade(graph, max_concurrent_downloads=count, max_concurrent_uploads=count)
    image = loaded(graph, (LAYERS[0], LAYERS[1], BIG))
    waiting = [line for line in push(graph, image, real) if line.get("status") == "Waiting"]
    assert len(waiting) == (3 - count if count else 0)
    graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    assert pull(graph, real).id == image.id
    assert statuses(graph).count("Waiting") == (3 - count if count else 0)


def test_a_second_push_sends_nothing_and_has_the_same_digest(graph: Graph, real: str) -> None:
    image = loaded(graph)
    first, second = push(graph, image, real), push(graph, image, real, tag="2")
    assert [line["status"] for line in second if "id" in line].count("Layer already exists") == 2
    assert second[-1]["aux"]["Digest"] == first[-1]["aux"]["Digest"]


def test_an_image_that_came_from_a_registry_keeps_its_digest(graph: Graph, real: str, registry: Scripted) -> None:
    document = {"annotations": {"a": "b"}}
    digest = registry.put("y", "1", image_files(config_of(), [gzip.compress(layer) for layer in LAYERS], **document))
    image = pull(graph, registry.host, "y")
    assert push(graph, image, real)[-1]["aux"]["Digest"] == digest


def test_layers_are_mounted_from_where_they_are_known_to_be(graph: Graph, real: str) -> None:
    image = loaded(graph, pack=lambda data: gzip.compress(data, mtime=0))
    push(graph, image, real, "one")
    mounts = {layer.digest: ["nowhere", "one"] for layer in image.layers}
    lines = push(graph, image, real, "two", mounts=mounts)
    assert [line["status"] for line in lines if "id" in line].count("Mounted from one") == 2
    graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    assert pull(graph, real, "two").id == image.id


def test_all_tags_and_none(graph: Graph, real: str) -> None:
    image = loaded(graph)
    graph.bus.answers["image_pushable"] = [PushableImage(image=image, tag=tag, mounts={}) for tag in ("1", "2")]
    lines: list[Any] = []
    do(graph, PushImage(image=f"{real}/x"), lines=lines)
    assert [line["aux"]["Tag"] for line in lines if "aux" in line] == ["1", "2"]
    graph.bus.answers["image_pushable"] = NotFound("An image does not exist locally with the tag: x")
    with pytest.raises(NotFound, match="An image does not exist locally"):
        do(graph, PushImage(image=f"{real}/x"))


def test_inspect(graph: Graph, real: str) -> None:
    digest = push(graph, loaded(graph), real)[-1]["aux"]["Digest"]
    found = do(graph, InspectDistribution(image=f"{real}/x:1"))
    assert found.descriptor["digest"] == digest
    assert found.platforms == [{"architecture": "amd64", "os": "linux"}]
    with pytest.raises(NotFound):
        do(graph, InspectDistribution(image=f"{real}/nothing"))


class Uploads:
    """The upload side of a registry, whose first PATCH breaks off after ``cut`` bytes."""

    def __init__(self, cut: int) -> None:
        self.blobs: dict[str, bytes] = {}
        self.came, self.cut, self.ranges, self.deleted = b"", cut, [], 0  # type: ignore[var-annotated]

    def __call__(self, request: Request) -> Answer | None:
        where = {"Location": "/v2/x/blobs/uploads/1?state=a"}
        if request.path == "/v2/":
            return Answer()
        if request.method == "HEAD":
            return Answer(200 if request.path.rpartition("/")[2] in self.blobs else 404)
        if request.method == "POST":
            self.came = b""
            return Answer(202, headers=where)
        if request.method == "PATCH":
            self.ranges.append(request.headers.get("Content-Range"))
            if self.cut:
                self.came, self.cut = self.came + request.body[: self.cut], 0
                return Answer(500)
            self.came += request.body
            return Answer(202, headers=where)
        if request.method == "GET":
            return Answer(204, headers={**where, "Range": f"0-{max(len(self.came) - 1, 0)}"})
        if request.method == "DELETE":
            self.deleted += 1
            return Answer(204)
        self.blobs[request.path.rpartition("digest=")[2]] = self.came or request.body
        return Answer(201)


def test_an_upload_that_breaks_off_is_resumed(graph: Graph, registry: Scripted) -> None:
    image = loaded(graph, (BIG,), gzip.compress)
    registry.handle = uploads = Uploads(cut=1 << 20)
    push(graph, image, registry.host)
    size = image.layers[0].size
    assert uploads.ranges[:2] == [None, f"{1 << 20}-{size - 1}"]
    assert digest_of(uploads.blobs[image.layers[0].digest]) == image.layers[0].digest


STUMBLING = ("HEAD blobs", "POST blobs", "PUT blobs", "PUT manifests")


def test_a_registry_that_stumbles_is_asked_again(graph: Graph, registry: Scripted) -> None:
    """Each kind of request fails at first; the end of the upload is done although its answer says otherwise."""
    image = loaded(graph, (BIG,), gzip.compress)
    uploads, asked = Uploads(cut=0), Counter[str]()

    def handle(request: Request) -> Answer | None:
        kind = f"{request.method} {''.join(request.path.split('/')[3:4])}"
        asked[kind] += 1
        if kind == "PUT blobs" and asked[kind] == 2:
            return Answer(404)  # the upload is no more
        answer = uploads(request) if kind not in ("HEAD blobs", "POST blobs") or asked[kind] > 1 else None
        return Answer(503) if asked[kind] == 1 and kind in STUMBLING else answer

    registry.handle = handle
    push(graph, image, registry.host)
    assert all(asked[kind] > 1 for kind in STUMBLING)
    assert {image.id, image.layers[0].digest} <= set(uploads.blobs)


def test_a_push_that_is_given_up_tells_the_registry(graph: Graph, registry: Scripted) -> None:
    image = loaded(graph, (BIG,), gzip.compress)
    uploads, cancelled = Uploads(cut=0), threading.Event()

    def handle(request: Request) -> Answer | None:
        if request.method == "PATCH":
            cancelled.set()
            return Answer(503)
        return uploads(request)

    registry.handle = handle
    graph.bus.answers["image_pushable"] = [PushableImage(image=image, tag="1", mounts={})]
    with pytest.raises(Cancelled):
        do(graph, PushImage(image=f"{registry.host}/x", tag="1"), cancelled)
    until(lambda: uploads.deleted == 1)
    until(lambda: not list((graph.config.root / "graph/tmp").iterdir()))


# -- who may


def test_a_registry_with_passwords(graph: Graph, tmp_path: Path) -> None:
    image = loaded(graph)
    with docker_registry(tmp_path / "registry", password=True) as host:
        assert do(graph, login(host)).status == "Login Succeeded"
        with pytest.raises(Unauthorized) as caught:
            do(graph, login(host, password="wrong"))
        assert caught.value.message == f"login attempt to http://{host}/v2/ failed with status: 401 Unauthorized"
        with pytest.raises(Unauthorized, match="no basic auth credentials"):
            push(graph, image, host)
        with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
            push(graph, image, host, auth=AuthConfig(username=USER, password="wrong"))
        push(graph, image, host, auth=CREDENTIALS)
        with pytest.raises(NotFound, match="pull access denied"):
            pull(graph, host)
        assert pull(graph, host, auth=CREDENTIALS).id == image.id


def login(host: str, password: str = PASSWORD, **fields: str) -> Authenticate:
    return Authenticate(auth=AuthConfig(username=USER, password=password, serveraddress=host, **fields))


class Tokens:
    """A registry that wants tokens, and their server: distribution's token authentication."""

    def __init__(self, host: str) -> None:
        self.host, self.asked, self.given = host, [], 0  # type: ignore[var-annotated]
        self.files: Any = lambda request: None

    def __call__(self, request: Request) -> Answer | None:
        path, _, query = request.path.partition("?")
        if path == "/token":
            self.asked.append(f"{query} {request.body.decode()}".strip())
            authorization = request.headers.get("Authorization")
            refresh = "refresh_token=r3fresh" in request.body.decode()
            if not refresh and authorization not in (None, "Basic bWU6Y29ycmVjdCBob3JzZQ=="):
                return Answer(401, json.dumps({"details": "incorrect username or password"}).encode())
            self.given += 1
            body = {"token": "anonymous" if authorization is None and not refresh else f"t0ken{self.given}"}
            body |= {"refresh_token": "r3fresh"} if "offline_token=true" in query else {}
            return Answer(body=json.dumps(body).encode())
        if request.headers.get("Authorization", "").startswith("Bearer t0ken"):
            return self.files(request) or (Answer() if path == "/v2/" else None)
        challenge = f'Bearer realm="http://{self.host}/token",service="tests"'
        return Answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {"WWW-Authenticate": challenge})


def test_tokens(graph: Graph, registry: Scripted) -> None:
    image = loaded(graph, pack=gzip.compress)
    registry.handle = tokens = Tokens(registry.host)
    status = do(graph, login(registry.host))
    assert (status.status, status.identity_token) == ("Login Succeeded", "r3fresh")
    assert tokens.asked == ["service=tests&account=me&client_id=dockyard&offline_token=true"]
    with pytest.raises(Unauthorized) as caught:
        do(graph, login(registry.host, password="wrong"))
    assert caught.value.message == f'Get "http://{registry.host}/v2/": unauthorized: incorrect username or password'
    tokens.asked.clear()
    tokens.files = Uploads(cut=0)
    push(graph, image, registry.host, auth=AuthConfig(identitytoken="r3fresh"))
    assert tokens.asked[0] == (
        "grant_type=refresh_token&refresh_token=r3fresh&client_id=dockyard&service=tests"
        "&scope=repository%3Ax%3Apull%2Cpush"
    )
    assert len(tokens.asked) == 1  # it is kept for the whole push
    with pytest.raises(NotFound, match=r"pull access denied .* denied: requested access to the resource is denied"):
        pull(graph, registry.host)
    with pytest.raises(Unauthorized, match=r"^denied: requested access to the resource is denied$"):
        do(graph, InspectDistribution(image=f"{registry.host}/x:1"))


def test_a_token_server_without_tls_gets_no_credentials(graph: Graph, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server-cert.pem", certificates / "server-key.pem")
    remade(graph, certs_dir=tmp_path / "certs.d")
    graph.driver.registries.endpoints._networks = []  # nothing is insecure
    with scripted() as plain, scripted(context) as registry:
        trust(tmp_path / "certs.d" / registry.host, certificates)
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{plain.host}/token"'}
        registry.handle = lambda request: Answer(401, headers=challenge)
        with pytest.raises(DockyardError, match=r"leads from https to http: http://127\.0\.0\.1"):
            do(graph, login(registry.host))
        assert not plain.requests


def trust(directory: Path, certificates: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes((certificates / "ca.pem").read_bytes())
    return directory


def test_a_token_whose_time_is_over_is_replaced(graph: Graph, registry: Scripted) -> None:
    """Each is good for three requests: one is refused in the middle of an upload, which goes on then."""
    image = loaded(graph, (BIG,), gzip.compress)
    tokens, uploads, used = Tokens(registry.host), Uploads(cut=0), dict[str, int]()
    tokens.files = uploads

    def handle(request: Request) -> Answer | None:
        token = request.headers.get("Authorization", "")
        used[token] = used.get(token, 0) + 1
        if token.startswith("Bearer t0ken") and used[token] > 3:
            request.headers.replace_header("Authorization", "Bearer old")
        return tokens(request)

    registry.handle = handle
    push(graph, image, registry.host, auth=CREDENTIALS)
    assert tokens.given > 1
    assert digest_of(uploads.blobs[image.layers[0].digest]) == image.layers[0].digest


# -- who does not answer


def test_nobody_there(graph: Graph) -> None:
    port = free_port()
    where = f'"http://127.0.0.1:{port}/v2/x/manifests/1": dial tcp 127.0.0.1:{port}: connect: connection refused'
    with pytest.raises(Unreachable) as caught:
        pull(graph, f"127.0.0.1:{port}")
    assert (caught.value.code, caught.value.message) == ("internal", f"Get {where}")
    with pytest.raises(DockyardError) as caught:
        do(graph, login(f"127.0.0.1:{port}"))
    assert caught.value.code == "internal"  # a bus that asks again at once would not help
    with pytest.raises(Unreachable, match=r"dial tcp: lookup no-such-host\.invalid: no such host"):
        pull(graph, "no-such-host.invalid")


def test_redirects_take_no_credentials_along(graph: Graph, registry: Scripted, tmp_path: Path) -> None:
    packed = gzip.compress(LAYERS[0])
    with scripted() as store:
        registry.put("x", "1", image_files(config_of(LAYERS[:1]), [packed]))
        path = f"/v2/x/blobs/{digest_of(packed)}"
        store.files["/elsewhere"] = registry.files[path]
        registry.files[path] = Answer(307, headers={"Location": f"http://{store.host}/elsewhere"})
        registry.handle = lambda request: (
            None
            if request.headers.get("Authorization")
            else Answer(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        )
        pull(graph, registry.host, auth=CREDENTIALS)
        assert [request.headers.get("Authorization") for request in store.requests] == [None]


# -- TLS, certs.d, mirrors, proxies, search


def remade(graph: Graph, environ: dict[str, str] | None = None, **settings: Any) -> Graph:
    """Have the same graph with other settings."""
    graph.config = Config(
        **{name: getattr(graph.config, name) for name in ("root", "run", "storage_driver")}, **settings
    )
    graph.driver = GraphDriver(graph.config, graph.bus, environ or {})
    return graph


def test_certificates(graph: Graph, tmp_path: Path) -> None:
    """The host name is no address of this host to the settings: so its certificate counts."""
    certificates = make_certificates(tmp_path / "certificates")
    remade(graph, certs_dir=tmp_path / "certs.d")
    graph.driver.registries.endpoints._networks = []  # nothing is insecure
    image = loaded(graph)
    with docker_registry(tmp_path / "registry", certificates=certificates, client_ca=True) as host:
        with pytest.raises(
            Unreachable, match="tls: failed to verify certificate: x509: certificate signed by unknown authority"
        ):
            pull(graph, host)
        directory = trust(tmp_path / "certs.d" / host, certificates)
        with pytest.raises(Unreachable, match=r"tls: (certificate required|bad certificate)$|Connection aborted|EOF"):
            pull(graph, host)
        (directory / "also.crt").write_text("junk")
        with pytest.raises(DockyardError, match=r"/also\.crt: no certificate or crl found$"):
            pull(graph, host)
        (directory / "also.crt").unlink()
        (directory / "client.cert").write_bytes((certificates / "cert.pem").read_bytes())
        with pytest.raises(DockyardError, match=r"missing key client\.key for client certificate client\.cert"):
            pull(graph, host)
        (directory / "client.key").write_bytes((certificates / "key.pem").read_bytes())
        push(graph, image, host)
        assert pull(graph, host).id == image.id


def test_an_insecure_registry_may_show_any_certificate(graph: Graph, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    image = loaded(graph)
    with docker_registry(tmp_path / "registry", certificates=certificates) as host:
        push(graph, image, host)
        assert pull(graph, host).id == image.id


def test_a_secure_registry_is_never_asked_without_tls(graph: Graph, registry: Scripted) -> None:
    graph.driver.registries.endpoints._networks = []
    with pytest.raises(Unreachable, match="server gave HTTP response to HTTPS client"):
        pull(graph, registry.host)
    assert not registry.requests


def test_mirrors_and_proxies(graph: Graph, registry: Scripted) -> None:
    """Docker Hub's mirror is asked by way of a proxy, which the mirror plays itself; the first mirror is broken."""
    registry.put("library/busybox", "1", image_files(config_of(), [gzip.compress(layer) for layer in LAYERS]))
    registry.handle = lambda request: (
        registry.files.get(request.path.removeprefix("http://mirror.invalid"))
        if "mirror.invalid" in request.path
        else None
    )
    remade(
        graph,
        {"HTTP_PROXY": f"http://{registry.host}"},
        registry_mirrors=(f"http://127.0.0.1:{free_port()}", "http://mirror.invalid"),
    )
    graph.bus.answers["image_get"] = {}
    do(graph, PullImage(image="busybox", tag="1", auth=CREDENTIALS))
    assert recorded(graph)[-1].tags[0] == "docker.io/library/busybox:1"
    assert statuses(graph)[0] == "Pulling from library/busybox"
    assert not [request for request in registry.requests if request.headers.get("Authorization")]


class Tunnel(threading.Thread):
    """A proxy that connects whoever asks with one host, whatever name was asked for."""

    def __init__(self, host: str) -> None:
        super().__init__(daemon=True)
        self.host, self.heads = host, []  # type: ignore[var-annotated]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=self.listener.accept()[:1], daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        name, _, port = self.host.partition(":")
        with client, socket.create_connection((name, int(port))) as server:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            self.heads.append(head.decode())
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_a_tunnel_through_a_proxy(graph: Graph, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    image = loaded(graph)
    with docker_registry(tmp_path / "registry", certificates=certificates) as host:
        tunnel = Tunnel(host)
        proxy = f"http://who:what@{tunnel.address}"
        remade(graph, {"HTTPS_PROXY": proxy}, insecure_registries=("registry.invalid",))
        push(graph, image, "registry.invalid")
        assert pull(graph, "registry.invalid").id == image.id
        assert tunnel.heads[0].startswith("CONNECT registry.invalid:443 ")
        assert "Basic d2hvOndoYXQ=" in tunnel.heads[0]
        tunnel.listener.close()


def test_search(graph: Graph, registry: Scripted) -> None:
    results = [
        {"name": "a", "description": "A", "star_count": 3, "is_official": False},
        {"name": "b", "description": "B", "star_count": 9, "is_official": True},
    ]
    registry.files["/v1/search"] = Answer(body=json.dumps({"num_results": 2, "results": results}).encode())
    remade(graph, search_index=f"http://{registry.host}")
    found = do(graph, SearchImages(term="busy box", limit=5))
    assert [(result.name, result.star_count) for result in found] == [("b", 9), ("a", 3)]
    assert registry.requests[-1].path == "/v1/search?q=busy+box&n=5"
    assert [r.name for r in do(graph, SearchImages(term="x", filters={"is-official": ["true"]}))] == ["b"]
    assert [r.name for r in do(graph, SearchImages(term="x", filters={"stars": ["4"]}))] == ["b"]
    assert [r.name for r in do(graph, SearchImages(term=f"{registry.host}/x", auth=CREDENTIALS))] == ["b", "a"]
    assert registry.requests[-1].headers["Authorization"].startswith("Basic ")
    for job, message in (
        (SearchImages(term="x", limit=101), r"outside the range of \[1, 100\]"),
        (SearchImages(term="x", filters={"colour": ["red"]}), "invalid filter 'colour'"),
        (SearchImages(term="x", filters={"stars": ["many"]}), "invalid filter 'stars=many'"),
    ):
        with pytest.raises(DockyardError, match=message):
            do(graph, job)
    for answer in (Answer(500), Answer(body=b"<html>"), Answer(body=b'{"results": 7}'), Answer(body=b" " * (5 << 20))):
        registry.files["/v1/search"] = answer
        with pytest.raises(DockyardError):
            do(graph, SearchImages(term="x"))
    registry.files["/v1/search"] = Answer(body=b'{"num_results": 0, "results": null}')  # as Go writes none
    assert do(graph, SearchImages(term="x")) == []
