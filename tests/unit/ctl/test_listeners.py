"""The API's sockets: where they may be, what is made of each address, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.ctl.listeners import Listener, check_hosts, make_listeners
from services.ctl.startup import StartError
from shared.runtime.config import Config, ConfigError
from tests.certificates import make_certificates


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dy") as made:  # short: a socket's path has 107 bytes
        yield Path(made)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def make(directory: Path) -> Iterator[Any]:
    made: list[Listener] = []

    def function(*hosts: str, environ: dict[str, str] | None = None, **settings: Any) -> list[Listener]:
        made.extend(make_listeners(Config(run=directory, hosts=hosts, **settings), environ or {}))
        return made

    yield function
    for listener in made:
        listener.close()


def tls(path: Path) -> dict[str, Any]:
    files = {"tlscacert": path / "ca.pem", "tlscert": path / "server-cert.pem", "tlskey": path / "server-key.pem"}
    return {"tlsverify": True, **files}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.parametrize(
    "host",
    ["tcp://127.0.0.1:99999", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:0", "tcp://localhost", "tcp://example.com:2375",
     "tcp://127.0.0.1:2375/v1", "unix://relative", "/run/docker.sock", "http://127.0.0.1:2375", "fd://", "nonsense"],
)  # fmt: skip
def test_an_address_that_is_not_served_names_its_key(make: Any, host: str) -> None:
    with pytest.raises(ConfigError, match="hosts: "):
        make(host)


@pytest.mark.parametrize("settings", [{}, {"tls": True}])
@pytest.mark.parametrize("host", ["tcp://0.0.0.0:2375", "tcp://[::]:2375", "192.0.2.1:2375"])
def test_an_address_beyond_loopback_needs_client_certificates(make: Any, host: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"hosts: .* is not a loopback address.*tlsverify, or insecure-tcp"):
        make(host, **settings)


def test_or_somebody_who_says_that_he_wants_it(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    make(f"tcp://0.0.0.0:{free_port()}", insecure_tcp=True)
    assert "DON'T BIND ON ANY IP ADDRESS WITHOUT setting tlsverify" in caplog.text


@pytest.mark.parametrize("form", ["tcp://127.0.0.1:{}", "127.0.0.1:{}", "localhost:{}", ":{}", "tcp://:{}"])
def test_an_address_and_a_port_is_tcp_on_this_host(make: Any, form: str) -> None:
    port = free_port()
    (listener,) = make(form.format(port))
    assert listener.getsockname() == ("127.0.0.1", port)
    assert not listener.is_encrypted


def test_an_address_of_metrics_that_is_none_names_its_own_key(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"^metrics-addr: 'nowhere' is not \[tcp://\]ADDRESS:PORT$"):
        make(metrics_addr="nowhere")


def test_a_port_that_is_taken_is_a_line(make: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError, match=f"the API cannot listen on {host}: Address already in use"):
            make(f"unix://{tempfile.gettempdir()}/dy-listener-test.sock", host)
    assert not Path(tempfile.gettempdir(), "dy-listener-test.sock").exists()  # what was made before it is gone


def test_what_would_be_refused_can_be_asked_beside_a_stack_that_listens(make: Any, directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address, path = f"127.0.0.1:{taken.getsockname()[1]}", directory / "docker.sock"
        (listening,) = make(f"unix://{path}")
        config = Config(run=directory, hosts=(f"unix://{path}", f"unix://{directory}/new/docker.sock", address))
        check_hosts(config)
        check_hosts(config, [address])
        with pytest.raises(StartError, match=f"cannot listen on {address}: Address already in use"):
            check_hosts(config, [f"unix://{path}"])
        check_hosts(Config(run=directory, hosts=("fd://", f"127.0.0.1:{free_port()}")), [])
    assert (path.is_socket(), (directory / "new").exists(), listening.fileno() > 0) == (True, False, True)


@pytest.mark.parametrize("host", ["foo://x", "127.0.0.1:0", "0.0.0.0:2375", "unix:///etc/passwd"])
def test_and_is_refused_as_if_it_were_to_begin(directory: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="hosts: "):
        check_hosts(Config(run=directory, hosts=(host,)))


def test_a_file_in_the_place_of_a_socket_stays(make: Any, directory: Path) -> None:
    (directory / "file").write_text("kept")
    with pytest.raises(ConfigError, match=r"hosts: .* is not a socket"):
        make(f"unix://{directory}/file")
    assert (directory / "file").read_text() == "kept"


def test_a_stale_socket_is_replaced(directory: Path) -> None:
    for _ in range(2):
        (listener,) = make_listeners(Config(run=directory), {})
        assert stat.S_IMODE((directory / "docker.sock").stat().st_mode) == 0o660
        socket.socket.close(listener)  # as a process that is killed leaves it


def test_sockets_of_before_an_upgrade_go_on_listening(directory: Path) -> None:
    """Whoever connected before is in their queue; one that is not wanted any more is closed."""
    first, second = str(directory / "one.sock"), str(directory / "two.sock")
    before = make_listeners(Config(run=directory, hosts=(f"unix://{first}", f"unix://{second}")), {})
    kept = {one.address: os.dup(one.fileno()) for one in before}
    assert list(kept) == [f"unix://{first}", f"unix://{second}"]
    inode = Path(first).stat().st_ino
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(first)
        after = make_listeners(Config(run=directory, hosts=(f"unix://{first}",)), {}, kept)
        try:
            assert Path(first).stat().st_ino == inode
            assert [one.address for one in after] == [f"unix://{first}"]
            accepted, _ = after[0].accept()
            accepted.close()
        finally:
            for one in after:
                one.close()
    assert not Path(first).exists()  # ours, as before
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept[f"unix://{second}"])
    for one in before:
        one.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("group", "gid"), [("", 0), ("root", 0), ("daemon", 1), ("4242", 4242)])
def test_the_group_of_the_unix_socket(make: Any, directory: Path, group: str, gid: int) -> None:
    make(group=group)
    assert (directory / "docker.sock").stat().st_gid == gid


def test_only_the_group_docker_need_not_exist(make: Any) -> None:
    with pytest.raises(ConfigError, match="group: no such group: dokcer"):
        make(group="dokcer")
    make(group="docker")


def test_tls_is_for_tcp_and_the_arbiter_has_a_plain_socket_to_ask_on(make: Any, certificates: Path) -> None:
    encrypted, ready = make(f"tcp://127.0.0.1:{free_port()}", **tls(certificates))
    assert encrypted.is_encrypted
    assert not ready.is_encrypted
    assert stat.S_IMODE(Path(ready.path).stat().st_mode) == 0o600


def test_a_plain_socket_that_is_there_does_for_the_arbiter(make: Any, directory: Path, certificates: Path) -> None:
    found = make(f"127.0.0.1:{free_port()}", f"unix://{directory}/docker.sock", **tls(certificates))
    assert [listener.is_encrypted for listener in found] == [True, False]


def test_a_certificate_that_is_not_there_is_named_before_anything_listens(make: Any, directory: Path) -> None:
    port = free_port()
    with pytest.raises(ConfigError, match=f"tlscert: {directory}/cert.pem: No such file"):
        make(f"unix://{directory}/d.sock", f"127.0.0.1:{port}", tls=True, tlscert=directory / "cert.pem")
    assert not (directory / "d.sock").exists()
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


SYSTEMD = """
import os, socket, sys
made = [socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0))]
made[0].bind(sys.argv[1] + "/handed.sock"); made[0].listen()
for number, one in enumerate(made):
    os.dup2(one.fileno(), 3 + number) if one.fileno() != 3 + number else one.set_inheritable(True)
environ = {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "docker.socket:web"}
from pathlib import Path
from services.ctl.listeners import make_listeners
from shared.runtime.config import Config, ConfigError
try:
    found = make_listeners(Config(run=Path(sys.argv[1]), hosts=tuple(sys.argv[2:])), environ)
except ConfigError as error:
    sys.exit(str(error))
print(*((one.fileno(), one.family.name) for one in found), sep="\\n")
for one in found:
    one.close()
print((Path(sys.argv[1]) / "handed.sock").exists())
"""


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        (["fd://"], "(3, 'AF_UNIX')\n(4, 'AF_INET')\nTrue\n"),
        (["fd://*"], "(3, 'AF_UNIX')\n(4, 'AF_INET')\nTrue\n"),
        (["fd://web"], "(4, 'AF_INET')\nTrue\n"),
        (["fd://4", "fd://docker.socket"], "(4, 'AF_INET')\n(3, 'AF_UNIX')\nTrue\n"),
        (["fd://nonesuch"], "hosts: 'fd://nonesuch': no such socket was handed over in LISTEN_FDS\n"),
        (
            ["unix:///nowhere/own.sock"],
            "hosts: systemd listens for us (dockyard.socket), and nobody would answer there: add fd:// to hosts\n",
        ),
        (["fd://web", "fd://web"], "hosts: 'fd://web': no such socket was handed over in LISTEN_FDS\n"),
    ],
)
def test_sockets_that_systemd_hands_over(directory: Path, hosts: list[str], said: str) -> None:
    command = [sys.executable, "-c", SYSTEMD, str(directory), *hosts]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert result.stdout + result.stderr == said


def test_sockets_that_were_handed_to_another_process_are_not_ours(make: Any) -> None:
    with pytest.raises(ConfigError, match="no such socket was handed over"):
        make("fd://", environ={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
