"""Images from anywhere to anywhere: the docker CLI, a stack as shipped, and Debian's docker-registry beside it."""

from __future__ import annotations

import gzip
import io
import json
import os
import platform
import re
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.graphdriver.blobs import digest_of
from tests.certificates import make_certificates
from tests.integration.api import Connection, request
from tests.integration.builds import build_in, write
from tests.integration.conftest import Stack, until
from tests.registries import PASSWORD, USER, Answer, Request, Scripted, docker_registry, image_files, scripted

PORT, SECRET_PORT, TLS_PORT = 5000, 5001, 5002
OWN = "10.213.77.1"  # an address of this host that is not loopback: so TLS is wanted


@pytest.fixture(scope="module")
def beside(shared_stack: Stack) -> list[str]:
    assert shared_stack.process is not None
    return ["nsenter", "--net", "--target", str(shared_stack.process.pid)]


@pytest.fixture(scope="module")
def registry(shared_stack: Stack, beside: list[str]) -> Iterator[str]:
    with docker_registry(shared_stack.directory / "registry", port=PORT, inside=beside) as host:
        yield host


@pytest.fixture
def served(shared_stack: Stack) -> Iterator[Scripted]:
    assert shared_stack.process is not None
    with scripted(network_of=shared_stack.process.pid) as served:
        yield served


@pytest.fixture
def clean(stack: Stack) -> Iterator[Stack]:
    """A stack with busybox and an image `mine` made of it; at the end nothing but busybox may be in its store."""
    before = stored(stack)
    made = stack.out("create", "busybox", "sh")
    stack.docker("commit", "--change", 'CMD ["sh"]', made, "mine")
    stack.docker("rm", made)
    yield stack
    stack.docker("rm", "-f", *stack.out("ps", "-aq").split(), check=False)
    for line in stack.out("images", "-a", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines():
        ref, image = line.split()
        if ref != "busybox:latest":
            stack.docker("rmi", "-f", image if "<none>" in ref else ref, check=False)
    until(lambda: stored(stack) == before, what=f"left behind: {stored(stack) ^ before}")


def stored(stack: Stack) -> set[str]:
    graph = stack.root / "graph"
    return {f"{d}/{p.name}" for d in ("blobs/sha256", "overlay", "vfs", "tmp") for p in (graph / d).glob("*")}


def put(stack: Stack, host: str, *names: str) -> str:
    """Push `mine` under names at a registry, and forget it; returns the digest."""
    for name in names:
        stack.docker("tag", "mine", f"{host}/{name}")
        pushed = stack.out("push", f"{host}/{name}")
        stack.docker("rmi", f"{host}/{name}")
    stack.docker("rmi", "mine")
    return str(re.search(r"digest: (sha256:[0-9a-f]{64}) size: \d+$", pushed)[1])  # type: ignore[index]


def test_push_and_run_of_what_is_missing(clean: Stack, registry: str) -> None:
    clean.docker("tag", "mine", f"{registry}/box:1")
    clean.docker("rmi", "mine")
    pushed = clean.out("push", f"{registry}/box:1")
    assert f"The push refers to repository [{registry}/box]" in pushed
    assert "Pushed" in pushed
    digest = re.search(r"1: digest: (sha256:[0-9a-f]{64}) size: \d+", pushed)[1]  # type: ignore[index]
    assert "Layer already exists" in clean.out("push", f"{registry}/box:1")
    assert clean.out("images", "--digests", "--format", "{{.Digest}}", f"{registry}/box") == digest
    assert f"Untagged: {registry}/box@{digest}" in clean.out("rmi", f"{registry}/box:1")
    result = clean.docker("run", "--rm", f"{registry}/box:1", "echo", "hello")
    assert result.stdout == "hello\n"
    assert f"Status: Downloaded newer image for {registry}/box:1" in result.stderr
    assert "up to date" in clean.out("pull", f"{registry}/box:1")
    assert clean.out("inspect", "-f", "{{json .RepoDigests}}", f"{registry}/box:1") == f'["{registry}/box@{digest}"]'


def test_by_digest(clean: Stack, registry: str) -> None:
    digest = put(clean, registry, "digested:1")
    ref = f"{registry}/digested@{digest}"
    assert f"Digest: {digest}" in clean.out("pull", ref)
    assert clean.out("run", "--rm", ref, "echo", "hello") == "hello"
    assert clean.out("run", "--rm", f"{registry}/digested:1@{digest}", "echo", "hello") == "hello"
    clean.docker("rmi", ref)
    assert clean.docker("inspect", ref, check=False).returncode == 1


def test_all_tags(clean: Stack, registry: str) -> None:
    put(clean, registry, "many:1", "many:2", "many:latest")
    assert f"Downloaded newer image for {registry}/many" in clean.out("pull", "-a", f"{registry}/many")
    tags = clean.out("images", "--format", "{{.Tag}}", f"{registry}/many").split()
    assert sorted(tags) == ["1", "2", "latest"]
    pushed = clean.out("push", "-a", f"{registry}/many")
    assert [bool(re.search(rf"^{tag}: digest: sha256:", pushed, re.MULTILINE)) for tag in tags] == [True] * 3


def test_pulls_are_jobs(clean: Stack, registry: str) -> None:
    put(clean, registry, "injected:1")
    told = clean.dockyard("job", "pull", f"{registry}/injected", "1").stdout
    assert f"Status: Downloaded newer image for {registry}/injected:1" in told
    missing = clean.dockyard("job", "pull", f"{registry}/injected", "2", check=False)
    assert missing.returncode == 1
    assert f"manifest for {registry}/injected:2 not found" in missing.stderr
    assert "pull" in clean.dockyard("jobs").stdout
    events = clean.out("events", "--since", "1", "--until", str(int(time.time()) + 1), "--filter", "event=pull")
    assert f"image pull {registry}/injected:1 (name={registry}/injected)" in events


def test_what_is_not_there(clean: Stack, registry: str) -> None:
    missing = clean.docker("pull", f"{registry}/nothing:1", check=False)
    assert missing.returncode == 1
    text = f"manifest for {registry}/nothing:1 not found: manifest unknown: manifest unknown"
    assert missing.stderr == f"Error response from daemon: {text}\n"
    run = clean.docker("run", "--rm", f"{registry}/nothing:1", check=False)
    assert run.returncode == 125
    assert text in run.stderr
    assert request(clean, "POST", f"/images/create?fromImage={registry}/nothing&tag=1") == (404, {"message": text})
    refused = clean.docker("pull", "127.0.0.1:9/x", check=False)
    assert "dial tcp 127.0.0.1:9: connect: connection refused" in refused.stderr
    unknown = clean.docker("pull", "no-such-host.invalid/x", check=False)
    assert "lookup no-such-host.invalid: no such host" in unknown.stderr
    push = clean.docker("push", f"{registry}/nothing:1", check=False)
    nowhere = f"An image does not exist locally with the tag: {registry}/nothing"
    assert nowhere in push.stderr
    connection = Connection(clean)
    connection.request("POST", f"/images/{registry}/nothing/push?tag=1", headers={"X-Registry-Auth": "e30="})
    answer = connection.getresponse()
    first, last = map(json.loads, answer.read().splitlines())
    connection.close()
    assert (answer.status, first) == (200, {"status": f"The push refers to repository [{registry}/nothing]"})
    assert last["error"] == nowhere


def test_login_and_logout(clean: Stack, beside: list[str]) -> None:
    with docker_registry(clean.directory / "secret", port=SECRET_PORT, password=True, inside=beside) as host:
        clean.docker("tag", "mine", f"{host}/box")
        clean.docker("rmi", "mine")
        assert "no basic auth credentials" in clean.docker("push", f"{host}/box", check=False).stderr
        wrong = clean.docker("login", "-u", USER, "--password-stdin", host, input="wrong", check=False)
        assert wrong.returncode == 1
        assert "401 Unauthorized" in wrong.stderr
        right = clean.docker("login", "-u", USER, "--password-stdin", host, input=PASSWORD)
        assert "Login Succeeded" in right.stdout
        clean.docker("push", f"{host}/box")
        clean.docker("rmi", f"{host}/box")
        assert clean.out("run", "--rm", f"{host}/box", "echo", "hello") == "hello"
        clean.docker("logout", host)
        clean.docker("rmi", f"{host}/box")
        denied = clean.docker("pull", f"{host}/box", check=False)
        assert (
            f"pull access denied for {host}/box, repository does not exist or may require 'docker login'"
            in denied.stderr
        )


def test_several_platforms(clean: Stack, registry: str, beside: list[str]) -> None:
    """`docker manifest` speaks with the registry itself, so it is run beside it."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    imported = ["docker", "import", "--platform", "linux/s390x", "-", f"{registry}/multi:other"]
    subprocess.run(imported, env=clean.environ, input=empty.getvalue(), check=True, capture_output=True)
    clean.docker("push", f"{registry}/multi:other")
    put(clean, registry, "multi:mine")
    for words in (["create", "--insecure"], ["push", "--insecure"]):
        refs = [
            f"{registry}/multi:1",
            *([f"{registry}/multi:mine", f"{registry}/multi:other"] if words[0] == "create" else []),
        ]
        command = [*beside, "docker", "manifest", *words, *refs]
        done = subprocess.run(command, env=clean.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    clean.docker("rmi", f"{registry}/multi:other")
    ref = f"{registry}/multi:1"
    assert clean.out("run", "--rm", ref, "echo", "hello") == "hello"
    assert clean.out("inspect", "-f", "{{.Architecture}}", ref) == architecture
    clean.docker("pull", "--platform", "linux/s390x", ref)
    assert clean.out("inspect", "-f", "{{.Architecture}}", ref) == "s390x"
    none = clean.docker("pull", "--platform", "linux/riscv64", ref, check=False)
    assert "no matching manifest for linux/riscv64 in the manifest list entries" in none.stderr
    status, found = request(clean, "GET", f"/distribution/{ref}/json")
    assert status == 200
    assert sorted(entry["architecture"] for entry in found["Platforms"]) == sorted([architecture, "s390x"])


def test_certificates_of_its_own(clean: Stack, beside: list[str], new_stack: Any) -> None:
    subprocess.run([*beside, "ip", "address", "replace", f"{OWN}/32", "dev", "lo"], check=True)
    certificates = make_certificates(clean.directory / "certificates", OWN)
    with docker_registry(
        clean.directory / "tls", address=OWN, port=TLS_PORT, certificates=certificates, inside=beside
    ) as host:
        clean.docker("tag", "mine", f"{host}/box")
        clean.docker("rmi", "mine")
        refused = clean.docker("push", f"{host}/box", check=False)
        assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in refused.stderr
        trusted = Path(clean.environ["DOCKYARD_CERTS_DIR"]) / host
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes((certificates / "ca.pem").read_bytes())
        clean.docker("push", f"{host}/box")
        clean.docker("rmi", f"{host}/box")
        assert clean.out("run", "--rm", f"{host}/box", "echo", "hello") == "hello"


def test_search(clean: Stack, served: Scripted) -> None:
    results = [{"name": "box", "description": "of things", "star_count": 7, "is_official": True}]
    served.files["/v1/search"] = Answer(body=json.dumps({"results": results}).encode())
    found = clean.out("search", "--format", "{{.Name}} {{.Description}} {{.StarCount}}", f"{served.host}/box")
    assert found == "box of things 7"


# -- what is cut off in the middle


def big_image(served: Scripted) -> tuple[bytes, bytes]:
    """Serve an image whose layer is 4 MiB that do not compress; returns its config and the layer's blob."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("random")
        info.size = 4 << 20
        archive.addfile(info, io.BytesIO(os.urandom(info.size)))
    blob = gzip.compress(buffer.getvalue(), 1)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine()),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(buffer.getvalue())]},
    }
    served.put("big", "1", image_files(json.dumps(config).encode(), [blob]))
    return json.dumps(config).encode(), blob


def hold(served: Scripted, blob: bytes) -> threading.Event:
    """Have transfers of a blob stop in the middle until the event is set; then resume works."""
    release = threading.Event()

    def handle(request: Request) -> Answer | None:
        if digest_of(blob) not in request.path:
            return None
        if not release.is_set():
            return Answer(200, blob, cut=1 << 20, wait=release)
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        headers = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"} if start else {}
        return Answer(206 if start else 200, blob[start:], headers)

    served.handle = handle
    return release


def start_pull(stack: Stack, ref: str) -> subprocess.Popen[str]:
    command = ["docker", "pull", ref]
    return subprocess.Popen(command, env=stack.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def partial(stack: Stack, size: int = 1 << 19) -> list[Path]:
    """Return the files of transfers that have come that far; what comes last before a halt may be in a buffer."""
    return [path for path in (stack.root / "graph/tmp").glob("*") if path.is_file() and path.stat().st_size >= size]


def test_two_pulls_share_a_download_and_one_may_hang_up(clean: Stack, served: Scripted) -> None:
    _, blob = big_image(served)
    release = hold(served, blob)
    pulls = [start_pull(clean, f"{served.host}/big:1") for _ in range(2)]
    until(lambda: partial(clean))
    until(lambda: len(served.asked("/manifests/")) >= 2)
    pulls[0].send_signal(signal.SIGINT)
    pulls[0].communicate(timeout=10)
    release.set()
    out, _ = pulls[1].communicate(timeout=30)
    assert pulls[1].returncode == 0, out
    assert [r.headers.get("Range") for r in served.asked(digest_of(blob))] == [None, f"bytes={1 << 20}-"]


def test_a_pull_whose_client_hangs_up_stops(clean: Stack, served: Scripted) -> None:
    _, blob = big_image(served)
    before, release = stored(clean), hold(served, blob)
    pull = start_pull(clean, f"{served.host}/big:1")
    until(lambda: partial(clean))
    pull.send_signal(signal.SIGINT)
    pull.communicate(timeout=10)
    until(lambda: not [job for job in jobs_under_way(clean) if job == "pull"])
    release.set()
    until(lambda: stored(clean) == before)  # of the config too, which had come whole
    assert clean.docker("inspect", f"{served.host}/big:1", check=False).returncode == 1


def jobs_under_way(stack: Stack) -> list[str]:
    _, jobs = 0, json.loads(stack.dockyard("job", "jobs", "--env", "running=1").stdout)
    return [str(job["name"]) for job in jobs]


def test_kill_9_in_the_middle_leaves_nothing(clean: Stack, served: Scripted) -> None:
    _, blob = big_image(served)
    release = hold(served, blob)
    pull = start_pull(clean, f"{served.host}/big:1")
    until(lambda: partial(clean))
    (pid,) = clean.pids("graphdriver")
    os.kill(pid, signal.SIGKILL)
    out, _ = pull.communicate(timeout=30)
    assert pull.returncode == 1, out
    until(lambda: pid not in clean.pids("graphdriver") and clean.pids("graphdriver"))
    until(lambda: not partial(clean))
    release.set()
    clean.docker("pull", f"{served.host}/big:1")
    assert clean.docker("inspect", f"{served.host}/big:1").returncode == 0


def test_kill_9_at_any_moment(clean: Stack, served: Scripted) -> None:
    """At the end `clean` finds nothing that no image has."""
    _, blob = big_image(served)
    ref = f"{served.host}/big:1"
    for step in range(6):  # more than ten in a minute, and the stack gives up
        pull = start_pull(clean, ref)
        (pid,) = until(lambda: clean.pids("graphdriver"))
        with_delay = threading.Timer(0.08 * step, os.kill, (pid, signal.SIGKILL))
        with_delay.start()
        pull.communicate(timeout=30)
        with_delay.join()
        until(lambda pid=pid: pid not in clean.pids("graphdriver") and clean.pids("graphdriver"))
        if pull.returncode == 0:
            clean.docker("rmi", ref)
    clean.docker("pull", ref)
    created = clean.out("create", ref, "/x")
    clean.docker("cp", f"{created}:/random", str(clean.directory / "random"))
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        assert archive.extractfile("random").read() == (clean.directory / "random").read_bytes()  # type: ignore[union-attr]
    clean.docker("rm", created)


def test_a_build_pulls_its_base(clean: Stack, registry: str, tmp_path: Path) -> None:
    """What FROM and COPY --from name is pulled if it is not here, or with --pull; with the user's credentials."""
    put(clean, registry, "base:1")
    lines = [f"FROM {registry}/base:1", f"COPY --from={registry}/base:1 /bin/busybox /copied"]
    build_in(clean, write(tmp_path, {"Dockerfile": "\n".join(lines)}), "-t", "built")
    assert clean.out("run", "--rm", "built", "test", "-x", "/copied") == ""
    again = build_in(clean, tmp_path, "--pull", "-t", "built")
    assert "Status: Image is up to date" in again.stdout
    assert "Using cache" in again.stdout
    write(tmp_path, {"Dockerfile": f"FROM {registry}/none\n"})
    assert "not found" in build_in(clean, tmp_path, check=False).stderr
