"""docker push."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.certificates import make_certificates
from tests.integration.conftest import Stack
from tests.registries import docker_registry

TLS_PORT = 5002
OWN = "10.213.77.1"  # an address of this host that is not loopback: so TLS is wanted


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


def test_certificates_of_its_own(clean: Stack, beside: list[str]) -> None:
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
