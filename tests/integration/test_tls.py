"""The API over TLS with client certificates, and over nothing else: docker does what it does on a unix socket."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make_certificates
from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.root

ADDRESS = "127.0.0.1:2376"


class TlsStack(Stack):
    """Listens on TCP alone; docker runs inside the stack's network namespace."""

    def __init__(self, directory: Path) -> None:
        self.certificates = make_certificates(directory / "certificates")
        super().__init__(
            directory,
            DOCKYARD_HOSTS=ADDRESS,
            DOCKYARD_TLSVERIFY="true",
            DOCKYARD_TLSCACERT=str(self.certificates / "ca.pem"),
            DOCKYARD_TLSCERT=str(self.certificates / "server-cert.pem"),
            DOCKYARD_TLSKEY=str(self.certificates / "server-key.pem"),
            DOCKER_HOST=f"tcp://{ADDRESS}",
            DOCKER_TLS_VERIFY="1",
            DOCKER_CERT_PATH=str(self.certificates),
        )

    def command(self, *args: str) -> list[str]:
        assert self.process is not None
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", "docker", *args]

    def docker(self, *args: str, check: bool = True, timeout: float = 60, **options: Any) -> Any:
        options = {"text": True, **options}
        result = subprocess.run(
            self.command(*args), env=self.environ, capture_output=True, timeout=timeout, check=False, **options
        )
        assert not check or result.returncode == 0, f"docker {' '.join(args)}: {result.returncode} {result.stderr}"
        return result


@pytest.fixture(scope="module")
def stack() -> Iterator[TlsStack]:
    stack = TlsStack(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp")))
    stack.start()
    stack.dockyard("busybox")
    yield stack
    stack.close()


def test_version_run_and_ps(stack: TlsStack) -> None:
    assert stack.out("version", "--format", "{{.Server.Version}}")
    assert stack.docker("run", "--rm", "busybox", "sh", "-c", "echo over tls; exit 3", check=False).returncode == 3
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "600")
    assert stack.out("ps", "--format", "{{.Names}} {{.State}}") == "web running"
    stack.docker("rm", "-f", "web")


def test_stdin_is_passed_on_and_its_end_too(stack: TlsStack) -> None:
    data = os.urandom(5 << 20)
    result = stack.docker("run", "--rm", "-i", "busybox", "md5sum", input=data, text=False)
    assert result.stdout.split()[0].decode() == hashlib.md5(data).hexdigest()


def test_much_output_arrives_whole(stack: TlsStack) -> None:
    result = stack.docker("run", "--rm", "busybox", "head", "-c", str(20 << 20), "/dev/zero", text=False)
    assert len(result.stdout) == 20 << 20


def test_attach_and_a_terminal(stack: TlsStack) -> None:
    stack.docker("run", "-d", "-i", "--name", "cat", "busybox", "sh", "-c", "read line; echo got $line; exit 4")
    attached = stack.docker("attach", "cat", input="a line\n", check=False)
    assert (attached.stdout, attached.returncode) == ("got a line\n", 4)
    stack.docker("rm", "cat")
    terminal = f"{' '.join(stack.command('run', '--rm', '-it', 'busybox', 'tty'))}"
    shown = subprocess.run(
        ["script", "-qec", terminal, "/dev/null"], env=stack.environ, capture_output=True, text=True, check=True
    )
    assert "/dev/pts/0" in shown.stdout


def test_a_client_that_leaves_is_noticed(stack: TlsStack) -> None:
    listeners = ("info", "--format", "{{.NEventsListener}}")
    client = subprocess.Popen(stack.command("events"), env=stack.environ, stdout=subprocess.DEVNULL)
    until(lambda: stack.out(*listeners) == "1")
    client.kill()
    client.wait()
    until(lambda: stack.out(*listeners) == "0")


def test_killed_workers_refuse_nobody(stack: TlsStack) -> None:
    for pid in stack.pids("apiserver"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: stack.docker("ps", "-q", check=False).returncode == 0, 20)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (("--tlscacert", "ca.pem"), "certificate required"),
        (("--tlscacert", "ca.pem", "--tlscert", "stranger-cert.pem", "--tlskey", "stranger-key.pem"), "unknown certi"),
        (("--tlscacert", "stranger-ca.pem", "--tlscert", "cert.pem", "--tlskey", "key.pem"), "unknown authority"),
    ],
)
def test_who_has_no_proper_certificate_is_refused(
    stack: TlsStack, files: tuple[str, ...], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = stack.directory / "empty"
    empty.mkdir(exist_ok=True)
    monkeypatch.setitem(stack.environ, "DOCKER_CERT_PATH", str(empty))
    named = [word if word.startswith("--") else str(stack.certificates / word) for word in files]
    refused = stack.docker("--tlsverify", *named, "version", check=False)
    assert refused.returncode == 1
    assert why in refused.stderr


def test_plain_http_is_refused(stack: TlsStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(stack.environ, "DOCKER_TLS_VERIFY")
    monkeypatch.delitem(stack.environ, "DOCKER_CERT_PATH")
    assert stack.docker("version", check=False).returncode == 1


def test_the_only_plain_socket_is_roots(stack: TlsStack) -> None:
    assert not (stack.run / "docker.sock").exists()
    assert (stack.run / "ready.sock").stat().st_mode & 0o777 == 0o600


def test_the_journal_tells_who_showed_which_certificate(stack: TlsStack) -> None:
    stack.docker("volume", "create", "mine")
    stack.docker("volume", "rm", "mine")
    (job,) = json.loads(stack.dockyard("jobs", "--name", "volume_create", "--limit", "1", "--json").stdout)
    assert job["peer"].startswith("CN=clientAuth 127.0.0.1:")
