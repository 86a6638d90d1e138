"""Images that skopeo takes out of the engine and puts in, by docker-daemon: (containers-transports(5)).

An image that was elsewhere and comes back is the same: its id is the digest of its configuration.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Stack

Skopeo = Callable[..., str]


@pytest.fixture
def skopeo(clean: Stack, beside: list[str]) -> Skopeo:
    """Run ``skopeo VERB WORDS`` where the stack's loopback is; it has an option of its own for each engine it asks."""
    engine = clean.environ["DOCKER_HOST"]
    where = {"inspect": ["--daemon-host", engine], "copy": ["--src-daemon-host", engine, "--dest-daemon-host", engine]}

    def run(verb: str, *words: str) -> str:
        command = [*beside, "skopeo", "--insecure-policy", verb, *where[verb], *words]
        done = subprocess.run(command, env=clean.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_inspect(clean: Stack, skopeo: Skopeo) -> None:
    seen = json.loads(skopeo("inspect", "docker-daemon:mine:latest"))
    image = json.loads(clean.out("image", "inspect", "mine"))[0]
    assert (seen["Architecture"], seen["Os"]) == (image["Architecture"], image["Os"])
    assert seen["Layers"] == image["RootFS"]["Layers"]
    config = json.loads(skopeo("inspect", "--config", "docker-daemon:mine:latest"))
    assert config["config"]["Cmd"] == ["sh"]


@pytest.mark.parametrize("transport", ["dir", "oci", "oci-archive", "docker-archive"])
def test_out_and_in_again_it_is_the_same(clean: Stack, skopeo: Skopeo, transport: str, tmp_path: Path) -> None:
    place = f"{transport}:{tmp_path / 'image'}" + (":mine:latest" if transport != "dir" else "")
    skopeo("copy", "docker-daemon:mine:latest", place)
    skopeo("copy", place, "docker-daemon:again:1")
    # skopeo writes the configuration anew where it changes the format
    same = "{{.RootFS.Layers}} {{.Config.Cmd}}" if "oci" in transport else "{{.Id}}"
    assert clean.out("inspect", "-f", same, "again:1") == clean.out("inspect", "-f", same, "mine")
    assert clean.out("run", "--rm", "again:1", "echo", "hello") == "hello"


def test_to_a_registry_from_where_the_engine_pulls_the_same(clean: Stack, skopeo: Skopeo, registry: str) -> None:
    before = clean.out("inspect", "-f", "{{.Id}}", "mine")
    skopeo("copy", "--dest-tls-verify=false", "docker-daemon:mine:latest", f"docker://{registry}/skopeo:1")
    clean.docker("rmi", "mine")
    clean.docker("pull", f"{registry}/skopeo:1")
    assert clean.out("inspect", "-f", "{{.Id}}", f"{registry}/skopeo:1") == before
    pushed = skopeo("inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{registry}/skopeo:1").strip()
    digests = json.loads(clean.out("inspect", "-f", "{{json .RepoDigests}}", f"{registry}/skopeo:1"))
    assert digests == [f"{registry}/skopeo@{pushed}"]


def test_what_the_engine_pushed_it_puts_in_as_the_same(clean: Stack, skopeo: Skopeo, registry: str) -> None:
    before = clean.out("inspect", "-f", "{{.Id}}", "mine")
    clean.docker("tag", "mine", f"{registry}/pushed:1")
    clean.docker("push", f"{registry}/pushed:1")
    clean.docker("rmi", f"{registry}/pushed:1", "mine")
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry}/pushed:1", "docker-daemon:back:1")
    assert clean.out("inspect", "-f", "{{.Id}}", "back:1") == before
