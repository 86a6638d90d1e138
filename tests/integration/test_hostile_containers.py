"""Containers and images that try to get out: each row of docs/security.md that only a whole stack shows.

`tests/contract/test_sandbox.py` has what the execdriver alone shows; `test_sandbox.py` what a user of the CLI sees.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import shutil
import socket
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api import Connection, request
from tests.integration.conftest import Stack, command_line, processes, until

pytestmark = pytest.mark.root

MARK = "this is the host"


def raw(stack: Any, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Return status and body; (0, b"") if the server breaks off: what it was about to send has gone."""
    connection = Connection(stack)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        try:
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.RemoteDisconnected, http.client.IncompleteRead):
            return 0, b""


def archive(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- symlink races (CVE-2018-15664)

SWAPS = 10_000
SWAP = f"""
mkdir -p /race/dir /race/real; echo inside > /race/real/secret; cd /race; ln -s {{host}} out; n=0
while [ $n -lt {SWAPS} ]; do
    mv -T real way 2>/dev/null; mv -T way real 2>/dev/null; mv out way 2>/dev/null; mv way out 2>/dev/null; n=$((n+1))
done; echo swapped; sleep 600
"""


def test_a_copy_while_the_container_swaps_a_directory_for_a_link(stack: Any, tmp_path: Path) -> None:
    """Ten thousand swaps: what is read is the container's, and nothing on the host is written."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "secret").write_text(MARK)
    stack.docker("run", "-d", "--name", "racer", "busybox", "sh", "-c", SWAP.format(host=host))
    written = read = 0
    while "swapped" not in stack.docker("logs", "racer").stdout:
        for _ in range(20):
            status, data = raw(stack, "GET", "/containers/racer/archive?path=/race/way/secret")
            assert MARK.encode() not in data
            read += status == 200
            status, _ = raw(stack, "PUT", "/containers/racer/archive?path=/race/way", archive("planted", b"x"))
            written += status == 200
    assert (sorted(path.name for path in host.iterdir()), (host / "secret").read_text()) == (["secret"], MARK)
    assert read and written  # it did hit the moments when the directory was there


def test_a_subpath_of_a_volume_that_is_swapped_for_a_link(stack: Any, tmp_path: Path) -> None:
    """CVE-2023-2253, CVE-2024-23651 and their like: what is mounted is inside the volume, or nothing is."""
    stack.needs(26, "volume-subpath")
    host = tmp_path / "host"
    host.mkdir()
    (host / "secret").write_text(MARK)
    script = f"cd /v; mkdir sub; ln -s {host} out; while :; do mv sub way; mv way sub; mv out way; mv way out; done"
    stack.docker("run", "-d", "--name", "racer", "-v", "raced:/v", "busybox", "sh", "-c", script)
    mounted = 0
    for _ in range(40):
        mount = "type=volume,src=raced,dst=/x,volume-subpath=way"
        result = stack.docker(
            "run", "--rm", "--mount", mount, "busybox", "sh", "-c", "cat /x/secret; echo ran", check=False
        )
        assert MARK not in result.stdout
        mounted += "ran" in result.stdout
    assert [path.name for path in host.iterdir()] == ["secret"]
    assert mounted
    stack.docker("rm", "-f", "racer")
    stack.docker("volume", "rm", "raced")


def test_a_target_of_a_mount_that_leads_out(stack: Any, tmp_path: Path) -> None:
    """CVE-2021-30465: the image's links are followed inside it, and the runtime's mount ends where it was checked."""
    host = tmp_path / "host"
    host.mkdir()
    stack.docker("run", "--name", "maker", "busybox", "ln", "-s", f"/../../../../../..{host}", "/out")
    stack.docker("commit", "maker", "trap")
    stack.docker(
        "run", "--rm", "-v", "filled:/out/landed", "trap", "sh", "-c", "echo x > /out/landed/file", check=False
    )
    stack.docker("run", "--rm", "--tmpfs", "/out/tmp", "trap", "true", check=False)
    stack.docker("run", "--rm", "-w", "/out/work", "trap", "true", check=False)
    assert list(host.iterdir()) == []
    assert str(host) not in Path("/proc/self/mounts").read_text()
    stack.docker("rm", "maker")
    stack.docker("rmi", "trap")
    stack.docker("volume", "rm", "filled", check=False)


# -- /proc/self/exe (CVE-2019-5736)

# where programs of the host have their libraries
TREES = [tree for tree in {"/usr", "/lib", "/lib64", sys.base_prefix} if Path(tree).exists()]
LOOK = """
import fcntl, os
descriptor = os.open("/proc/self/exe", os.O_RDONLY)
status = os.fstat(descriptor)
try:
    seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
except OSError:
    seals = "none"
print(status.st_dev, status.st_ino, seals)
"""


def test_a_health_probe_that_executes_itself_sees_a_sealed_copy(stack: Any) -> None:
    """The container brings the libraries, so what runs in the interpreter's image is its own."""
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "600"],
        "Healthcheck": {"Test": ["CMD", "/proc/self/exe", "-I", "-S", "-c", LOOK], "Interval": 200_000_000},
        "HostConfig": {"Binds": [f"{tree}:{tree}:ro" for tree in TREES]},
    }
    container = request(stack, "POST", "/containers/create", body)[1]["Id"]
    assert request(stack, "POST", f"/containers/{container}/start")[0] == 204

    def log() -> Any:
        return request(stack, "GET", f"/containers/{container}/json")[1]["State"]["Health"]["Log"]

    until(log)
    assert log()[0]["ExitCode"] == 0, log()
    device, inode, seals = log()[0]["Output"].split()
    host = Path(sys.executable).stat()
    assert (int(device), int(inode)) != (host.st_dev, host.st_ino)
    assert seals == "15"  # F_SEAL_SEAL, SHRINK, GROW, WRITE


# a redirection that fails ends a shell: so a new one tries again, until it holds a program that is not its own
HOLD = """
mkfifo /fifo
cat > /hold <<'END'
for p in /proc/[0-9]*; do
    case $(readlink $p/exe) in /bin/* | "") ;; *) exec 7< $p/exe; echo got; break ;; esac
done
[ -e /proc/self/fd/7 ] || exit 1
echo > /fifo
while :; do (echo x > /proc/self/fd/7) 2> /dev/null && echo changed; done
END
while :; do sh /hold 2> /dev/null; done
"""


def test_the_runtime_cannot_be_overwritten_through_an_exec(new_stack: Callable[..., Stack]) -> None:
    """On copies of the runtimes, so that a failure hurts nobody.

    The exec is the runtime again, which waits for its configuration, so that there is time to take hold of its program.
    """
    stack = new_stack()
    programs = stack.directory / "programs"
    programs.mkdir(parents=True)
    for name in ("crun", "conmon"):
        shutil.copy(str(shutil.which(name)), programs / name)
    stack.environ["PATH"] = f"{programs}:{stack.environ['PATH']}"
    before = {name: digest(programs / name) for name in ("crun", "conmon")}
    stack.start()
    stack.dockyard("busybox")
    libraries = [word for tree in TREES for word in ("-v", f"{tree}:{tree}:ro")]
    stack.docker("run", "-d", "--name", "attacker", *libraries, "busybox", "sh", "-c", HOLD)
    assert [line.split()[0] for line in conmons(stack)] == [str(programs / "conmon")]
    assert "crun version" in stack.out("exec", "attacker", "/proc/self/exe", "--version")
    stack.docker("exec", "-d", "attacker", "/proc/self/exe", "run", "--config", "/fifo", "x")
    until(lambda: "got" in stack.out("logs", "attacker"), what="it was never there to be taken hold of")
    for _ in range(10):
        stack.docker("exec", "attacker", "true")
    assert stack.out("logs", "attacker") == "got"
    assert {name: digest(programs / name) for name in before} == before


def conmons(stack: Stack) -> list[str]:
    lines = [command_line(pid) for pid in processes()]
    return [line for line in lines if "/conmon " in line and str(stack.run) in line]


# -- what the host's processes load (CVE-2019-14271)


def test_nothing_of_a_container_is_loaded_by_ours(stack: Any) -> None:
    """No process of the stack has a file of a container mapped, and none has its root there."""
    stack.docker("run", "-d", "--name", "web", "-u", "nobody", "busybox", "sleep", "600")
    stack.docker("exec", "web", "id")
    for user in ("nobody", "root"):
        raw(stack, "PUT", "/containers/web/archive?path=/tmp&copyUIDGID=1", archive(user, b"x"))
        raw(stack, "GET", "/containers/web/archive?path=/etc")
    assert raw(stack, "GET", "/containers/web/export")[0] == 200
    for service in ("engine", "graphdriver", "netdriver", "execdriver", "apiserver"):
        for pid in stack.pids(service):
            assert str(stack.root / "overlay") not in Path(f"/proc/{pid}/maps").read_text()
            assert Path(f"/proc/{pid}/root").readlink() == Path("/")


# -- what goes with an exec


@pytest.mark.parametrize("user", ["4294967296", "-1", "4294967295", "0:4294967296", "2147483648:0"])
def test_no_user_of_an_exec_wraps_to_root(stack: Any, user: str) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "600")
    result = stack.docker("exec", "-u", user, "web", "id", check=False)
    assert (result.returncode, "uid=0" in result.stdout) == (126, False), result


def signals_of(status: str) -> dict[str, int]:
    """Return the masks of a /proc/PID/status but for 32 and 33, glibc's own, which its posix_spawn ignores (make)."""
    masks = dict(line.split(":\t") for line in status.splitlines())
    return {name: int(mask, 16) & ~0x1_8000_0000 for name, mask in masks.items()}


def test_no_signal_is_ignored_or_blocked_inside(stack: Any) -> None:
    """Python ignores SIGPIPE, and what starts it in the background SIGINT and SIGQUIT: none of it is inherited."""
    check = {"Test": ["CMD", "grep", "Sig[BI]", "/proc/self/status"], "Interval": 200_000_000}
    body = {"Image": "busybox", "Cmd": ["sleep", "600"], "Healthcheck": check}
    assert request(stack, "POST", "/containers/create?name=web", body)[0] == 201
    stack.docker("start", "web")
    clean = {"SigBlk": 0, "SigIgn": 0}
    for process in ("1", "self"):
        assert signals_of(stack.out("exec", "web", "grep", "Sig[BI]", f"/proc/{process}/status")) == clean
    shown = ["inspect", "-f", "{{json .State.Health.Log}}", "web"]
    until(lambda: json.loads(stack.out(*shown)))
    assert signals_of(json.loads(stack.out(*shown))[0]["Output"]) == clean


def test_terminals_are_the_containers_own(stack: Any) -> None:
    """A devpts of its own: no terminal of the host, or of another container, is there."""
    before = set(Path("/dev/pts").iterdir())
    stack.docker("run", "-dt", "--name", "one", "busybox", "sleep", "600")
    stack.docker("run", "-dt", "--name", "two", "busybox", "sleep", "600")
    assert stack.out("exec", "one", "ls", "/dev/pts").split() == ["0", "ptmx"]
    assert stack.out("exec", "-t", "two", "ls", "/dev/pts").split() == ["0", "1", "ptmx"]
    assert set(Path("/dev/pts").iterdir()) == before
    assert "Read-only" in stack.docker("exec", "one", "sh", "-c", "echo x > /sys/class/tty/tty/dev", check=False).stderr


def test_links_in_the_place_of_devices(stack: Any) -> None:
    """What the runtime makes in /dev is on a tmpfs, whatever the image has there; and it follows no link out of it."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    names = ("console", "ptmx", "tty", "null", "pts", "shm", "mqueue", "stdin", "fd")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            link = tarfile.TarInfo(f"dev/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "/proc/sys/kernel/core_pattern"
            tar.addfile(link)
    script = "for name in console ptmx tty null; do test -c /dev/$name && echo x > /dev/$name && echo fine; done"
    stack.docker("create", "-t", "--name", "trap", "busybox", "sh", "-c", script)
    assert raw(stack, "PUT", "/containers/trap/archive?path=/", out.getvalue())[0] == 200
    assert stack.docker("start", "-a", "trap", check=False).stdout.count("fine") >= 3  # ptmx takes no input
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern
    assert not [
        name for name in names if Path("/dev", name).is_symlink() and "core" in str(Path("/dev", name).readlink())
    ]


# -- sizes


def test_environments_of_any_size_are_passed_or_refused(stack: Any) -> None:
    body = {"Image": "busybox", "Cmd": ["sh", "-c", "env | wc -c"], "Tty": True}
    for env, passed in (
        ([f"V{number}={'x' * 1000}" for number in range(1000)], True),
        ([f"A={'x' * (128 << 10)}"], False),
    ):
        container = request(stack, "POST", "/containers/create", {**body, "Env": env})[1]["Id"]
        request(stack, "POST", f"/containers/{container}/start")
        request(stack, "POST", f"/containers/{container}/wait")
        said = stack.docker("logs", container)
        size = said.stdout.strip()
        assert (size.isdigit() and int(size) > 1_000_000) is passed, said
        if not passed:
            assert "list too long" in said.stdout + said.stderr
            assert stack.out("inspect", "-f", "{{.State.Running}} {{.State.ExitCode}}", container) != "false 0"


def test_ten_thousand_labels(stack: Any) -> None:
    labels = {f"label.{number}": "x" * 100 for number in range(10_000)}
    status, made = request(stack, "POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], "Labels": labels})
    assert status == 201
    assert request(stack, "POST", f"/containers/{made['Id']}/start")[0] == 204
    assert request(stack, "GET", f"/containers/{made['Id']}/json")[1]["Config"]["Labels"] == labels


# -- what is written into files of others


def test_no_label_is_an_instruction_to_the_runtime(stack: Any) -> None:
    """crun obeys annotations, some of which name files of the host's: an image's labels never become any."""
    target = stack.directory / "written"
    keys = ("run.oci.hooks.stdout", "run.oci.hooks.stderr", "run.oci.handler", "run.oci.keep_original_groups", "x\ny")
    labels = [word for key in keys for word in ("--label", f"{key}={target}")]
    container = stack.out("run", "-d", *labels, "busybox", "sleep", "600")
    config = json.loads((stack.run / "containers" / container / "config.json").read_text())
    assert not set(config.get("annotations", {})) & set(keys)
    assert not target.exists()


def test_names_of_mounts_may_have_any_character(stack: Any) -> None:
    """In /proc/mounts they are escaped, in conmon's arguments and config.json they are data."""
    source = stack.directory / 'a b\nc"d\\e,é'
    source.mkdir()
    (source / "file").write_text("here")
    target = '/x y\nz"\\040'
    mounts = [{"Type": "bind", "Source": str(source), "Target": target}]
    body = {"Image": "busybox", "Cmd": ["cat", f"{target}/file"], "Tty": True, "HostConfig": {"Mounts": mounts}}
    container = request(stack, "POST", "/containers/create", body)[1]["Id"]
    assert request(stack, "POST", f"/containers/{container}/start")[0] == 204
    request(stack, "POST", f"/containers/{container}/wait")
    assert stack.out("logs", container) == "here"
    assert request(stack, "GET", f"/containers/{container}/json")[1]["Mounts"][0]["Destination"] == target
    stack.docker("rm", "-f", container)
    assert str(source) not in Path("/proc/self/mounts").read_text()
    shutil.rmtree(source)


def test_nobody_writes_lines_of_our_log(stack: Any) -> None:
    """Nor characters that a terminal obeys."""
    forged = "2026-01-01 00:00:00,000 ERROR dockyard.engine forged"
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "600")
    for path in (
        f"/containers/web/kill?signal=x%0a{forged.replace(' ', '%20')}",
        f"/containers/x%0a{forged.replace(' ', '%20')}/start",
        "/containers/x%1b%5b2Jy/start",
        "/containers/x%00y%0dz/start",
        f"/images/create?fromImage=x%0a{forged.replace(' ', '%20')}",
    ):
        assert raw(stack, "POST", path)[0] >= 400
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(stack.run / "docker.sock"))
        connection.sendall(b"GET /\x1b[2J HTTP/1.1\r\n\r\n")
        connection.recv(4096)
    log = stack.log()
    assert "forged" in log  # it is there, but in a line
    assert not [line for line in log.split("\n") if line.startswith(forged[:20])]
    assert not [char for char in log if not char.isprintable() and char != "\n"]
    past = stack.dockyard("jobs", "--limit", "100").stdout
    assert not [char for char in past if not char.isprintable() and char != "\n"]


def test_a_container_writes_no_lines_of_another_stream(stack: Any) -> None:
    """What it prints is data, also where it looks like a line of the log's own format."""
    text = "2026-01-01T00:00:00.000000000+00:00 stderr F forged\\r\\0\\n2026-01-01T00:00:00Z stdout P half\\n"
    stack.docker("run", "--name", "web", "busybox", "printf", text, check=False)
    said = stack.docker("logs", "web")
    assert said.stderr == ""
    assert said.stdout.startswith("2026-01-01T00:00:00.000000000+00:00 stderr F forged")
    assert raw(stack, "GET", "/containers/web/logs?stderr=1") == (200, b"")


def test_what_a_container_does_to_its_hosts_file_is_its_own_affair(stack: Any) -> None:
    """It is the container's to write. A peer that is linked to it starts all the same, and the host's file stays."""
    before = Path("/etc/hosts").read_bytes()
    stack.docker("run", "-d", "--name", "db", "busybox", "sleep", "600")
    stack.docker("run", "-d", "--name", "web", "--link", "db:db", "busybox", "sleep", "600")
    for script in (r"printf 'db\xff\xfe\000' > /etc/hosts", "head -c 3000000 /dev/zero > /etc/hosts", ": > /etc/hosts"):
        stack.docker("exec", "web", "sh", "-c", script)
        stack.docker("restart", "-t", "0", "db")  # its new address is told to web
        assert stack.out("exec", "db", "echo", "here") == "here"
    assert Path("/etc/hosts").read_bytes() == before


# -- floods (GO-2022-0482, GO-2022-1147, GO-2025-4108)


def descriptors(stack: Any, service: str) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in stack.pids(service))


@contextlib.contextmanager
def attached(stack: Any, container: str, number: int) -> Iterator[list[socket.socket]]:
    head = f"POST /containers/{container}/attach?stream=1&stdout=1&stderr=1&stdin=1 HTTP/1.1\r\nHost: x\r\n"
    with contextlib.ExitStack() as made:
        connections = []
        for _ in range(number):
            connection = made.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(str(stack.run / "docker.sock"))
            connection.sendall(head.encode() + b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            connections.append(connection)
        yield connections


def test_a_terminal_that_is_never_read(stack: Any) -> None:
    """Those who attach and do not read hold up nobody but their own stream, and no memory."""
    stack.docker("run", "-dit", "--name", "web", "busybox", "sh", "-c", "while :; do echo said; done")
    before = {service: descriptors(stack, service) for service in ("execdriver", "engine")}
    with attached(stack, "web", 20):
        time.sleep(1)
        assert stack.out("exec", "web", "echo", "here") == "here"
        sizes = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) << 12 for pid in stack.pids("apiserver")]
        assert max(sizes) < 200 << 20
    stack.docker("rm", "-f", "web")
    until(
        lambda: all(descriptors(stack, service) < before[service] + 20 for service in before), what="descriptors stay"
    )


def test_resizes_and_execs_in_numbers(stack: Any) -> None:
    stack.docker("run", "-dit", "--name", "web", "busybox", "sleep", "600")
    stack.docker("exec", "web", "true")
    before = {service: descriptors(stack, service) for service in ("execdriver", "engine")}
    failures: list[Any] = []

    def resize() -> None:
        for number in range(100):
            status, answer = raw(stack, "POST", f"/containers/web/resize?h={number + 1}&w={65535 - number}")
            if status != 200:
                failures.append(answer)

    def execute() -> None:
        for number in range(10):
            made = request(stack, "POST", "/containers/web/exec", {"Cmd": ["sh", "-c", f"exit {number}"]})[1]["Id"]
            status, answer = raw_start(stack, made)
            if status != 200:
                failures.append(answer)

    threads = [threading.Thread(target=target) for target in (resize, execute) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    for height, width in ((-1, 80), (0, 1 << 40), (1 << 16, 80), (1 << 31, 1 << 31)):
        status, _ = raw(stack, "POST", f"/containers/web/resize?h={height}&w={width}")
        assert status in (200, 400), (height, width, status)
    assert stack.out("exec", "web", "echo", "here") == "here"
    until(
        lambda: all(descriptors(stack, service) < before[service] + 20 for service in before), what="descriptors stay"
    )


def raw_start(stack: Any, exec_id: str) -> tuple[int, Any]:
    return request(stack, "POST", f"/exec/{exec_id}/start", {"Detach": True})
