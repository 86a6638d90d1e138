"""docker pull, by the client and as a job; a run and a build pull what is missing."""

from __future__ import annotations

import io
import json
import platform
import re
import subprocess
import tarfile
import time
from pathlib import Path

from tests.integration.api import Connection, request
from tests.integration.builds import build_in, write
from tests.integration.conftest import Stack
from tests.integration.registry.conftest import put


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
    status, body = request(clean, "POST", "/images/create?fromImage=127.0.0.1:9/x&tag=1")
    assert (status, body["message"].partition(": ")[2]) == (500, "dial tcp 127.0.0.1:9: connect: connection refused")
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
