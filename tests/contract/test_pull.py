"""What a pull promises, on each storage driver, against a registry that does as it is told."""

from __future__ import annotations

import concurrent.futures
import gzip
import json
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from services.graphdriver.blobs import digest_of
from shared.protocol import (
    AuthConfig,
    Cancelled,
    DockyardError,
    ExportImages,
    GraphCollect,
    InspectDistribution,
    InvalidArgument,
    NotFound,
    PullImage,
    SavedImage,
    Unauthorized,
)
from tests.contract.pulls import (
    BIG,
    DOCKER_INDEX,
    OCI,
    OCI_INDEX,
    PACKED,
    do,
    index_of,
    manifest_of,
    pull,
    recorded,
    registry,
    statuses,
    until,
)
from tests.contract.test_graphdriver import LAYERS, Graph, config_of, docker_archive, graph, machine, receive, tar
from tests.registries import Answer, Request, Scripted, image_files

__all__ = ["graph", "machine", "registry"]

pytestmark = pytest.mark.root


@pytest.mark.parametrize("kind", ["application/vnd.docker.distribution.manifest.v2+json", OCI])
@pytest.mark.parametrize("pack", [bytes, lambda data: gzip.compress(data, mtime=0), zstandard.compress])
def test_an_image_is_pulled(graph: Graph, registry: Scripted, kind: str, pack: Any) -> None:
    digest = registry.put("x", "1", image_files(config_of(), [pack(layer) for layer in LAYERS], kind=kind))
    image = pull(graph, registry)
    assert image.id == digest_of(config_of())
    assert [layer.digest for layer in image.layers] == [digest_of(pack(layer)) for layer in LAYERS]
    assert {layer.media_type.partition("+")[0] for layer in image.layers} == {"application/vnd.oci.image.layer.v1.tar"}
    assert image.manifest is not None
    assert image.manifest.digest == digest
    (call,) = recorded(graph)
    assert (call.tags, call.action) == ([f"{registry.host}/x:1", f"{registry.host}/x@{digest}"], "pull")
    assert sorted(p.name for p in graph.mounted(image).rglob("*")) == ["etc", "one", "two"]
    said = statuses(graph)
    assert (said[0], said[-2]) == ("Pulling from x", f"Digest: {digest}")
    assert said[-1] == f"Status: Downloaded newer image for {registry.host}/x:1"
    vocabulary = {"Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting"}
    assert vocabulary | {"Pull complete"} < set(said)
    assert graph.progress[0]["id"] == "1"
    assert {line["id"] for line in graph.progress[1:-2]} == {layer.digest[7:19] for layer in image.layers}


def test_what_is_here_is_not_fetched_again(graph: Graph, registry: Scripted) -> None:
    registry.put("x", "1", image_files(config_of(), PACKED))
    image = pull(graph, registry)
    graph.progress.clear()
    registry.requests.clear()
    graph.bus.answers["image_get"] = {"Id": image.id}
    pull(graph, registry)
    assert not registry.asked("/blobs/")
    digest = f"Digest: {digest_of(registry.files['/v2/x/manifests/1'].body)}"
    up_to_date = f"Status: Image is up to date for {registry.host}/x:1"
    assert statuses(graph) == ["Pulling from x", digest, up_to_date]
    graph.progress.clear()
    graph.bus.answers["image_get"] = {}  # its layers are another's
    pull(graph, registry)
    assert statuses(graph).count("Already exists") == 2


def test_a_layer_that_was_loaded_is_fetched_to_be_what_the_manifest_names(graph: Graph, registry: Scripted) -> None:
    graph.load(docker_archive(config_of(), list(LAYERS), ["busybox:1"]))
    registry.put("x", "1", image_files(config_of(), PACKED))
    image = pull(graph, registry)
    archive = receive(graph.do(ExportImages(images=[SavedImage(image=image, tags=[])])))
    graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    (again,) = graph.load(archive)
    assert again.diff_ids == image.diff_ids


def test_of_an_image_that_was_loaded_nothing_is_fetched(graph: Graph, registry: Scripted) -> None:
    (image,) = graph.load(docker_archive(config_of(), list(LAYERS), ["busybox:1"]))
    registry.put("x", "1", image_files(config_of(), PACKED))
    graph.bus.answers["image_get"] = {"Id": image.id}
    again = pull(graph, registry)
    assert not registry.asked("/blobs/")
    assert (again.layers, again.manifest) == (image.layers, None)  # no more is known to be what the manifest names
    for layer in image.layers:  # what the archive brought is lost
        graph.driver.blobs.path(layer.digest).unlink()
    repaired = pull(graph, registry)
    assert [layer.digest for layer in repaired.layers] == [digest_of(data) for data in PACKED]
    assert len(registry.asked("/blobs/")) == 2


def test_a_collection_takes_nothing_of_an_image_that_is_about_to_be_recorded(graph: Graph, registry: Scripted) -> None:
    registry.put("x", "1", image_files(config_of(), PACKED))
    graph.bus.answers["image_get"] = lambda job: {"Bytes": graph.do(GraphCollect(keep_names=[], keep_containers=[]))}
    image = pull(graph, registry)
    assert sorted(path.name for path in graph.mounted(image).rglob("*")) == ["etc", "one", "two"]


def test_a_layer_that_is_here_does_not_vouch_for_another_blob(graph: Graph, registry: Scripted) -> None:
    """The config claims a diff_id that was unpacked before; the blob is something else."""
    graph.load(docker_archive(config_of(), list(LAYERS), ["busybox:1"]))
    registry.put("x", "1", image_files(config_of(), [PACKED[0], gzip.compress(tar({"evil": b"x"}))]))
    with pytest.raises(InvalidArgument, match="does not match its digest"):
        pull(graph, registry)


def test_a_layer_twice_in_an_image_is_fetched_once(graph: Graph, registry: Scripted) -> None:
    layers = (LAYERS[0], LAYERS[0])
    registry.put("x", "1", image_files(config_of(layers), [PACKED[0], PACKED[0]]))
    assert len(pull(graph, registry).chain_ids) == 2
    assert len(registry.asked(digest_of(PACKED[0]))) == 1


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_INDEX])
def test_an_index_is_gone_down_to_the_platform(graph: Graph, registry: Scripted, kind: str) -> None:
    mine, other = image_files(config_of(), PACKED, kind=OCI), image_files(config_of(), PACKED[:1], kind=OCI)
    inner = index_of((manifest_of(mine), {"os": "linux", "architecture": "amd64"}), kind=kind)
    outer = index_of(
        (manifest_of(other), {"os": "linux", "architecture": "arm64"}),
        (manifest_of(other), {"os": "unknown", "architecture": "unknown"}),
        kind=kind,
    )
    document = json.loads(outer.body)
    document["manifests"].append({"mediaType": kind, "digest": digest_of(inner.body), "size": len(inner.body)})
    outer.body = json.dumps(document).encode()
    registry.put("x", "2", mine)
    registry.files["/v2/x/manifests/1"] = outer
    registry.files[f"/v2/x/manifests/{digest_of(inner.body)}"] = inner
    image = pull(graph, registry)
    assert image.manifest is not None
    assert image.manifest.digest == digest_of(manifest_of(mine))
    assert recorded(graph)[-1].tags[1] == f"{registry.host}/x@{digest_of(outer.body)}"


def test_an_index_is_believed_before_a_config(graph: Graph, registry: Scripted) -> None:
    """Cross builds often leave the builder's own architecture in the config."""
    built = image_files(config_of(), PACKED, kind=OCI)
    registry.put("x", "2", built)
    registry.files["/v2/x/manifests/1"] = index_of(
        (manifest_of(built), {"os": "linux", "architecture": "arm64"}),
    )
    pull(graph, registry, platform="linux/arm64")
    assert statuses(graph)[-1] == f"Status: Downloaded newer image for {registry.host}/x:1"


def test_another_platform_is_asked_for(graph: Graph, registry: Scripted) -> None:
    arm = json.dumps({**json.loads(config_of()), "architecture": "arm64"}).encode()
    mine, other = image_files(config_of(), PACKED, kind=OCI), image_files(arm, PACKED, kind=OCI)
    registry.put("x", "2", mine)
    registry.put("x", "3", other)
    registry.files["/v2/x/manifests/1"] = index_of(
        (manifest_of(mine), {"os": "linux", "architecture": "amd64"}),
        (manifest_of(other), {"os": "linux", "architecture": "arm64", "variant": "v8"}),
    )
    assert pull(graph, registry, platform="linux/arm64").architecture == "arm64"
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        pull(graph, registry, platform="linux/s390x")
    assert pull(graph, registry, tag="2", platform="linux/arm64").architecture == "amd64"
    assert statuses(graph)[-1] == (
        f"WARNING: image with reference {registry.host}/x:2 was found but its platform (linux/amd64) does not match "
        "the specified platform (linux/arm64)"
    )
    with pytest.raises(InvalidArgument, match="invalid argument"):
        pull(graph, registry, platform="linux/amd64/v1/x")
    inspected = do(graph, InspectDistribution(image=f"{registry.host}/x:1"))
    assert [platform["architecture"] for platform in inspected.platforms] == ["amd64", "arm64"]
    assert inspected.descriptor["mediaType"] == OCI_INDEX


def test_all_tags(graph: Graph, registry: Scripted) -> None:
    for tag in ("1", "2", "3"):
        registry.put("x", tag, image_files(config_of(), PACKED))
    pages = {"": (["1", "3"], '</v2/x/tags/list?n=2&last=3>; rel="next"'), "n=2&last=3": (["2"], "")}

    def handle(request: Request) -> Answer | None:
        path, _, query = request.path.partition("?")
        if path != "/v2/x/tags/list":
            return None
        tags, link = pages[query]
        return Answer(body=json.dumps({"name": "x", "tags": tags}).encode(), headers={"Link": link} if link else {})

    registry.handle = handle
    graph.bus.answers["image_get"] = {}
    do(graph, PullImage(image=f"{registry.host}/x"))
    assert [call.tags[0].rpartition(":")[2] for call in recorded(graph)] == ["1", "2", "3"]
    assert statuses(graph)[-1] == f"Status: Downloaded newer image for {registry.host}/x"


def test_by_digest(graph: Graph, registry: Scripted) -> None:
    digest = registry.put("x", "1", image_files(config_of(), PACKED))
    pull(graph, registry, tag=digest)
    assert recorded(graph)[-1].tags == [f"{registry.host}/x@{digest}"]
    do(graph, PullImage(image=f"{registry.host}/x:1@{digest}"))
    assert recorded(graph)[-1].tags == [f"{registry.host}/x@{digest}"]
    other = "sha256:" + "0" * 64
    registry.files[f"/v2/x/manifests/{other}"] = registry.files["/v2/x/manifests/1"]
    with pytest.raises(InvalidArgument, match="manifest verification failed for digest sha256:0000"):
        pull(graph, registry, tag=other)


# -- what breaks on the way


def cutting(registry: Scripted, blob: bytes, cuts: list[int], *, ranges: bool = True) -> None:
    """Break off the transfers of a blob after so many bytes each; what comes after the last is whole."""
    left = list(cuts)

    def handle(request: Request) -> Answer | None:
        if digest_of(blob) not in request.path or request.method != "GET":
            return None
        start = int(request.headers.get("Range", "bytes=0-")[6:-1]) if ranges else 0
        headers = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"} if start else {}
        return Answer(206 if start else 200, blob[start:], headers, cut=left.pop(0) if left else None)

    registry.handle = handle


def test_a_transfer_that_breaks_off_is_resumed(graph: Graph, registry: Scripted) -> None:
    blob = gzip.compress(BIG)
    registry.put("x", "1", image_files(config_of((BIG,)), [blob]))
    cutting(registry, blob, [1 << 20, 1 << 19])
    assert pull(graph, registry).id == digest_of(config_of((BIG,)))
    ranges = [request.headers.get("Range") for request in registry.asked(digest_of(blob))]
    assert ranges == [None, "bytes=1048576-", "bytes=1572864-"]
    assert "Retrying in 1 second" in statuses(graph)


def test_or_begun_again_where_the_registry_knows_no_ranges(graph: Graph, registry: Scripted) -> None:
    blob = gzip.compress(BIG)
    registry.put("x", "1", image_files(config_of((BIG,)), [blob]))
    cutting(registry, blob, [1 << 20, 1 << 19], ranges=False)
    assert pull(graph, registry).id == digest_of(config_of((BIG,)))


@pytest.mark.parametrize("graph", ["overlay"], indirect=True)
def test_but_not_for_ever(graph: Graph, registry: Scripted) -> None:
    blob = gzip.compress(BIG)
    registry.put("x", "1", image_files(config_of((BIG,)), [blob]))
    cutting(registry, blob, [1 << 19] * 50, ranges=False)
    with pytest.raises(DockyardError, match="unexpected EOF"):
        pull(graph, registry)
    assert len(registry.asked(digest_of(blob))) == graph.config.max_download_attempts


@pytest.mark.parametrize("graph", ["overlay"], indirect=True)
def test_a_registry_that_stumbles_is_asked_again(graph: Graph, registry: Scripted) -> None:
    registry.put("x", "1", image_files(config_of(), PACKED))
    answers = {digest: [Answer(503), Answer(429)] for digest in (digest_of(PACKED[0]), digest_of(config_of()))}

    def handle(request: Request) -> Answer | None:
        left = answers.get(request.path.rpartition("/")[2])
        return left.pop() if left else None

    registry.handle = handle
    assert pull(graph, registry).id == digest_of(config_of())


def waiting_at(registry: Scripted, blob: bytes, cut: int = 1 << 20) -> threading.Event:
    """Hold a blob's transfer in its middle until the event is set."""
    release = threading.Event()
    whole = registry.handle

    def handle(request: Request) -> Answer | None:
        if digest_of(blob) in request.path and not release.is_set():
            return Answer(200, blob, cut=cut, wait=release)
        return whole(request)

    registry.handle = handle
    return release


class Puller(threading.Thread):
    def __init__(self, graph: Graph, registry: Scripted) -> None:
        super().__init__()
        self.graph, self.registry = graph, registry
        self.cancelled, self.lines, self.error = threading.Event(), [], None  # type: ignore[var-annotated]
        self.start()

    def run(self) -> None:
        try:
            job = PullImage(image=f"{self.registry.host}/x", tag="1")
            do(self.graph, job, self.cancelled, self.lines)
        except DockyardError as error:
            self.error = error

    def downloads(self) -> bool:
        return any(line["status"] == "Downloading" and line["progressDetail"]["current"] for line in self.lines)


@pytest.mark.parametrize("graph", ["overlay"], indirect=True)
def test_two_who_pull_the_same_share_one_download(graph: Graph, registry: Scripted) -> None:
    blob = gzip.compress(BIG)
    registry.put("x", "1", image_files(config_of((BIG,)), [blob]))
    graph.bus.answers["image_get"] = {}
    cutting(registry, blob, [])
    release = waiting_at(registry, blob)
    one, two = Puller(graph, registry), Puller(graph, registry)
    until(lambda: one.downloads() and two.downloads())
    one.cancelled.set()
    one.join(5)
    assert isinstance(one.error, Cancelled)
    assert len(graph.driver.downloads) == 1  # the other waits for it
    release.set()
    two.join(20)
    assert two.error is None
    assert [request.headers.get("Range") for request in registry.asked(digest_of(blob))] == [None, "bytes=1048576-"]


@pytest.mark.parametrize("graph", ["overlay"], indirect=True)
def test_a_pull_that_nobody_waits_for_stops(graph: Graph, registry: Scripted) -> None:
    blob = gzip.compress(BIG)
    registry.put("x", "1", image_files(config_of((BIG,)), [blob]))
    graph.bus.answers["image_get"] = {}
    release = waiting_at(registry, blob)
    one = Puller(graph, registry)
    until(one.downloads)
    one.cancelled.set()
    one.join(5)
    assert isinstance(one.error, Cancelled)
    until(lambda: not len(graph.driver.downloads) and not list((graph.config.root / "graph/tmp").iterdir()))
    assert not release.is_set()  # the registry has not sent another byte
    release.set()
    assert not recorded(graph)


# -- who may


def test_denied_and_missing(graph: Graph, registry: Scripted) -> None:
    name = f"{registry.host}/x"
    with pytest.raises(NotFound) as caught:
        pull(graph, registry)
    assert caught.value.message == f"manifest for {name}:1 not found: manifest unknown: manifest unknown"
    registry.handle = lambda request: error(404, "NAME_UNKNOWN", "repository name not known to registry")
    with pytest.raises(NotFound, match=f"repository {name} not found: name unknown: repository name not known"):
        pull(graph, registry)
    registry.handle = lambda request: error(403, "DENIED", "requested access to the resource is denied")
    with pytest.raises(NotFound) as caught:
        pull(graph, registry)
    assert caught.value.message == (
        f"pull access denied for {name}, repository does not exist or may require 'docker login': denied: requested "
        "access to the resource is denied"
    )


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    return Answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), headers)


def test_basic_credentials(graph: Graph, registry: Scripted) -> None:
    registry.put("x", "1", image_files(config_of(), PACKED))
    challenge = error(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": 'Basic realm="r"'})
    right = "Basic bWU6c2VjcmV0"  # me:secret
    registry.handle = lambda request: None if request.headers.get("Authorization") == right else challenge
    with pytest.raises(NotFound, match=r"pull access denied .* 'docker login': no basic auth credentials"):
        pull(graph, registry)
    with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
        pull(graph, registry, auth=AuthConfig(username="me", password="wrong"))
    with pytest.raises(Unauthorized, match=r"^no basic auth credentials$"):
        do(graph, InspectDistribution(image=f"{registry.host}/x:1"))
    assert pull(graph, registry, auth=AuthConfig(username="me", password="secret")).id == digest_of(config_of())


def test_a_server_that_closes_when_it_is_spoken_to_in_tls_has_answered_in_http(graph: Graph) -> None:
    """It is no TLS that failed: what counts is what it says in HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server, concurrent.futures.ThreadPoolExecutor(1) as executor:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    if connection.recv(1 << 16).startswith(b"GET "):
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        served = executor.submit(serve)
        with pytest.raises(NotFound, match=r"^pull access denied for 127"):
            pull(graph, SimpleNamespace(host=f"127.0.0.1:{server.getsockname()[1]}"))  # type: ignore[arg-type]
        served.result(10)
