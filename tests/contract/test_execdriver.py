"""What the execdriver promises, on real containers: a busybox rootfs, no network, a stand-in for the engine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from services.execdriver.bundle import ExecBundle
from services.execdriver.cgroups import complete_hierarchies
from services.execdriver.containers import Containers
from services.execdriver.crun import Crun
from services.execdriver.driver import Runtime
from services.execdriver.exec import Execs
from services.execdriver.handlers import ExecDriver, jobs
from services.execdriver.health import Checks
from services.execdriver.placement import placement
from services.execdriver.reports import Reports
from shared.bus.bus import FakeBus
from shared.bus.tickets import TicketServer, redeem
from shared.protocol import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    ContainerConfig,
    ContainerExited,
    DeviceMapping,
    ExecExited,
    HostConfig,
    Interface,
    InvalidArgument,
    MountPoint,
    NotFound,
    RuntimeAttach,
    RuntimeDelete,
    RuntimeExec,
    RuntimeExecList,
    RuntimeKill,
    RuntimeList,
    RuntimeResize,
    RuntimeStart,
    RuntimeStarted,
    Unavailable,
)
from shared.runtime.config import Config

pytestmark = pytest.mark.root
CGROUP_PARENT = f"/dockyard-contract-{os.getpid()}"


class Bench:
    """A driver, and what the engine would have heard."""

    def __init__(self, directory: Path) -> None:
        self.instances = max(instances(), 1)  # one for logs that are followed stays, once one was
        self.config = Config(root=directory / "root", run=directory / "run", cgroup_parent=CGROUP_PARENT)
        self.rootfs = directory / "rootfs"
        self.netns = directory / "netns"
        self.bus = FakeBus()
        self.drivers: list[ExecDriver] = []
        self.driver = self.new_driver()
        self.ids: list[str] = []

    def new_driver(self) -> ExecDriver:
        runtime, reports = self.new_runtime(), Reports(self.bus)
        places = placement(self.config)
        containers = Containers(self.config, lambda _: runtime, reports, Checks(self.bus), places)
        driver = ExecDriver(
            containers,
            Execs(self.config, lambda _: runtime, reports, places),
            TicketServer(self.config.run / f"tickets.{len(self.bus.calls)}"),
        )
        self.drivers.append(driver)
        return driver

    def close(self) -> None:
        """End the drivers, and see that the inotify instances, of which root has 128, are given back."""
        for driver in self.drivers:
            driver.tickets.close()
            driver.containers.close()
        until(lambda: instances() <= self.instances)

    def new_runtime(self) -> Runtime:
        return Crun("crun", self.config.run / "oci")

    def do(self, job: Any) -> Any:
        return jobs[job.__struct_config__.tag](self.driver, job)

    def job(
        self,
        *args: str,
        host: HostConfig | None = None,
        generation: int = 1,
        mounts: list[MountPoint] | None = None,
        **config: Any,
    ) -> RuntimeStart:
        container = os.urandom(32).hex()
        self.ids.append(container)
        return RuntimeStart(
            container=container,
            generation=generation,
            name="test",
            rootfs=str(self.rootfs),
            directory=str(self.config.root / "containers" / container),
            args=list(args),
            config=ContainerConfig(hostname="inside", env=["PATH=/bin"], **config),
            host_config=host or HostConfig(shm_size=1 << 20),
            interface=Interface(mode="none", netns=str(self.netns)),
            mounts=mounts or [],
        )

    def run(self, *args: str, **settings: Any) -> tuple[int, str, str]:
        """Run a command to its end; returns (exit code, stdout, stderr)."""
        job = self.job(*args, **settings)
        stream = self.attach(job.container)
        self.do(job)
        out = drain(next(stream))
        code = self.exit_of(job.container).exit_code
        self.do(RuntimeDelete(container=job.container))
        return code, out.get(2, b"").decode(), out.get(3, b"").decode()

    def attach(self, container: str) -> Iterator[socket.socket]:
        connection = redeem(self.do(RuntimeAttach(container=container)))
        until(lambda: self.waiting(container) or container in self.driver.containers.attachments._open)

        def receive() -> Iterator[socket.socket]:
            with connection:
                data, (descriptor,), _, _ = socket.recv_fds(connection, 1, 1)
                assert data == b"A"
                yield socket.socket(fileno=descriptor)

        return receive()

    def waiting(self, container: str) -> bool:
        return bool(self.driver.containers.attachments._waiting.get(container))

    def exit_of(self, container: str) -> ContainerExited:
        def reported() -> ContainerExited | None:
            found = (j for j in list(self.bus.calls) if isinstance(j, ContainerExited) and j.container == container)
            return next(found, None)

        return until(reported)


def instances() -> int:
    """Return how many inotify instances this process has."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += "inotify" in str(entry.readlink())
    return found


def until(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)
    return value


def drain(stream: socket.socket) -> dict[int, bytes]:
    out: dict[int, bytes] = {}
    with stream:
        while packet := stream.recv(65536):
            out[packet[0]] = out.get(packet[0], b"") + packet[1:]
    return out


def make_rootfs(path: Path) -> None:
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        (path / name).mkdir(parents=True)
    (path / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (path / "bin" / "busybox").chmod(0o755)
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            (path / "bin" / applet).symlink_to("busybox")
    (path / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1001::/home/guest:/bin/sh\n")
    (path / "etc" / "group").write_text("root:x:0:\nguest:x:1001:\nfloppy:x:25:guest\n")
    (path / "etc" / "text").write_text("not a program\n")


def cgroup_directories(path: str) -> list[Path]:
    """Return the directories of a cgroup, in each hierarchy of v1, or the one of v2."""
    root = Path("/sys/fs/cgroup")
    roots = [root] if (root / "cgroup.controllers").exists() else [entry for entry in root.iterdir() if entry.is_dir()]
    return [top / path.lstrip("/") for top in roots if (top / path.lstrip("/")).is_dir()]


def leftovers() -> list[str]:
    return [str(p) for top in cgroup_directories(CGROUP_PARENT) for p in top.iterdir() if p.is_dir()]


@pytest.fixture(scope="module")
def shared_rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    complete_hierarchies()
    path = tmp_path_factory.mktemp("rootfs") / "fs"
    make_rootfs(path)
    return path


@pytest.fixture
def bench(tmp_path: Path, shared_rootfs: Path) -> Iterator[Bench]:
    with bench_at(Bench(tmp_path), shared_rootfs) as made:
        yield made


@contextmanager
def bench_at(bench: Bench, rootfs: Path) -> Iterator[Bench]:
    """Give the bench a network, and see that nothing is left of what it ran."""
    bench.rootfs = rootfs
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        own = Path("/proc/self/ns/net").stat().st_ino
        until(lambda: Path(f"/proc/{holder.pid}/ns/net").stat().st_ino != own)
        bench.netns = Path(f"/proc/{holder.pid}/ns/net")
        yield bench
    finally:
        for container in bench.ids:
            bench.do(RuntimeDelete(container=container))
        holder.kill()
        holder.wait()
        bench.close()
        assert not leftovers()
        for directory in cgroup_directories(CGROUP_PARENT):
            directory.rmdir()
        assert not list((bench.config.run / "containers").iterdir())
        assert not list((bench.config.run / "exits").iterdir())
        assert not list((bench.config.run / "oci").iterdir())


def test_output_and_exit_code(bench: Bench) -> None:
    assert bench.run("sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")


def test_no_output_of_a_short_process_is_lost(bench: Bench) -> None:
    for _ in range(30):
        assert bench.run("echo", "hi") == (0, "hi\n", "")


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        ("nonesuch", CommandNotFound, 'exec: "nonesuch": executable file not found in $PATH: unknown'),
        ("/bin/nonesuch", CommandNotFound, "no such file or directory: unknown"),
        ("/etc/text", CommandNotExecutable, "permission denied: unknown"),
        ("/etc", CommandNotExecutable, "permission denied: unknown"),
    ],
)
def test_a_command_that_cannot_run(bench: Bench, command: str, error: type[Exception], text: str) -> None:
    job = bench.job(command)
    with pytest.raises(error, match="OCI runtime create failed") as caught:
        bench.do(job)
    assert text in str(caught.value)
    assert not bench.do(RuntimeList())


def test_unknown_users_groups_and_bad_directories_are_refused(bench: Bench) -> None:
    for config in ({"user": "nobody-here"}, {"user": "4294967296"}, {"working_dir": "/etc/text/x"}):
        with pytest.raises(InvalidArgument):
            bench.do(bench.job("true", **config))
    with pytest.raises(InvalidArgument, match="no matching entries in passwd file"):
        bench.do(bench.job("true", user="nobody-here"))


def test_the_user_with_its_groups_home_and_directory(bench: Bench) -> None:
    code, out, _ = bench.run("sh", "-c", "id; echo $HOME; pwd; hostname", user="guest", working_dir="/srv/new")
    assert code == 0
    assert out == "uid=1000(guest) gid=1001(guest) groups=25(floppy)\n/home/guest\n/srv/new\ninside\n" or (
        out.startswith("uid=1000(guest) gid=1001(guest) groups=") and out.endswith("/home/guest\n/srv/new\ninside\n")
    )


def test_the_sandbox_is_in_force(bench: Bench) -> None:
    script = (
        "grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/1/status; cat /proc/kcore | wc -c; ls /proc/1/fd | wc -l"
    )
    _, out, _ = bench.run("sh", "-c", script)
    facts = dict(line.split(":") for line in out.splitlines()[:4])
    assert {key: value.strip() for key, value in facts.items()} == {
        "CapEff": "00000000a80425fb",
        "CapBnd": "00000000a80425fb",
        "Seccomp": "2",
        "NoNewPrivs": "0",
    }
    assert out.splitlines()[4] == "0"  # /proc/kcore is masked
    assert bench.run("sh", "-c", "echo 1 > /proc/sys/kernel/sysrq")[0] != 0
    assert bench.run("unshare", "-n", "true")[0] != 0
    assert bench.run("mount", "-t", "tmpfs", "x", "/tmp")[0] != 0
    assert bench.run("cat", "/dev/null")[0] == 0


def test_limits_reach_the_cgroup(bench: Bench) -> None:
    job = bench.job("sleep", "60", host=HostConfig(shm_size=1 << 20, memory=64 << 20, pids_limit=33))
    started = bench.do(job)
    cgroups = Path(f"/proc/{started.pid}/cgroup").read_text()
    assert f"{CGROUP_PARENT}/{job.container}" in cgroups
    names = ("memory.limit_in_bytes", "memory.max", "pids.max")
    files = [top / name for top in cgroup_directories(f"{CGROUP_PARENT}/{job.container}") for name in names]
    found = {file.read_text().strip() for file in files if file.exists()}
    assert found == {str(64 << 20), "33"}


def test_binds_tmpfs_and_a_read_only_root(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "shared"
    source.mkdir()
    (source / "file").write_text("from the host\n")
    host = HostConfig(shm_size=1 << 20, tmpfs={"/root": "size=64k"}, readonly_rootfs=True)
    bind = MountPoint(type="bind", source=str(source), destination="/tmp/b", writable=False)
    script = "cat /tmp/b/file; touch /tmp/b/x || echo ro-bind; touch /x || echo ro-root; touch /root/x && echo tmpfs"
    _, out, _ = bench.run("sh", "-c", script, host=host, mounts=[bind])
    assert out == "from the host\nro-bind\nro-root\ntmpfs\n"


def test_what_is_made_in_the_rootfs_is_open_to_all_users(bench: Bench, tmp_path: Path) -> None:
    """The umask of the services keeps what is theirs; a container's directories are 0755, whoever makes them."""
    source = tmp_path / "shared"
    source.mkdir(mode=0o777)
    (source / "file").write_text("mine\n")
    points = [
        MountPoint(type="bind", source=str(source), destination="/on/the/way"),
        MountPoint(type="bind", source=str(source / "file"), destination="/of/a/file"),
    ]
    host = HostConfig(
        shm_size=1 << 20,
        tmpfs={"/of/a/tmpfs": ""},
        devices=[DeviceMapping(path_on_host="/dev/null", path_in_container="/dev/of/a/device", cgroup_permissions="r")],
    )
    script = (
        "stat -c %A /srv /srv/new /on /on/the /of /of/a /dev/of | cut -c1-9; cat /of/a/file; "
        "test -e /of/a/tmpfs/. -a -e /on/the/way/file -a -c /dev/of/a/device || echo closed; umask"
    )
    before = os.umask(0o077)  # as `shared.runtime.process` has it
    try:
        _, out, err = bench.run("sh", "-c", script, host=host, mounts=points, user="guest", working_dir="/srv/new/deep")
    finally:
        os.umask(before)
    assert (out.split(), err) == (["drwxr-xr-"] * 7 + ["mine", "0022"], "")


def test_a_signal_is_128_and_its_number(bench: Bench) -> None:
    job = bench.job("sleep", "60")
    bench.do(job)
    bench.do(RuntimeKill(container=job.container, signal=signal.SIGKILL))
    assert bench.exit_of(job.container).exit_code == 137
    with pytest.raises(NotFound):
        bench.do(RuntimeKill(container="0" * 64, signal=9))


def test_stdin_is_piped_and_half_closed(bench: Bench) -> None:
    job = bench.job("sh", "-c", "cat; echo end", open_stdin=True, stdin_once=True)
    stream = bench.attach(job.container)
    bench.do(job)
    connection = next(stream)
    connection.send(b"one\n")
    connection.send(b"two\n")
    connection.shutdown(socket.SHUT_WR)
    assert drain(connection) == {2: b"one\ntwo\nend\n"}


def test_a_terminal_and_its_size(bench: Bench) -> None:
    job = bench.job("sh", "-c", "read x; stty size; tty", tty=True, open_stdin=True)
    stream = bench.attach(job.container)
    bench.do(job)
    connection = next(stream)
    bench.do(RuntimeResize(container=job.container, height=33, width=77))
    connection.send(b"go\n")
    out = drain(connection)[2].decode()
    assert "33 77\r\n" in out
    assert "/dev/pts/0" in out


def test_two_attachments_see_the_same(bench: Bench) -> None:
    job = bench.job("echo", "twice")
    streams = [bench.attach(job.container)]
    second = redeem(bench.do(RuntimeAttach(container=job.container)))
    until(lambda: len(bench.driver.containers.attachments._waiting[job.container]) == 2)
    bench.do(job)
    _, (descriptor,), _, _ = socket.recv_fds(second, 1, 1)
    second.close()
    for connection in (next(streams[0]), socket.socket(fileno=descriptor)):
        assert drain(connection) == {2: b"twice\n"}


def test_a_monitor_that_is_late_loses_no_output(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has accepted who attached before the process runs; else it would end without having seen them."""
    runtime = type(bench.driver.containers._runtime_of(""))
    real = runtime.start

    def start(self: Any, container: str) -> None:
        monitor = bench.driver.containers._bundle(container).monitor_pid()
        os.kill(monitor, signal.SIGSTOP)
        real(self, container)
        time.sleep(0.05)
        os.kill(monitor, signal.SIGCONT)

    monkeypatch.setattr(runtime, "start", start)
    for _ in range(10):
        job = bench.job("echo", "once")
        stream = bench.attach(job.container)
        bench.do(job)
        assert drain(next(stream)) == {2: b"once\n"}
        bench.exit_of(job.container)
        bench.bus.calls.clear()
        bench.do(RuntimeDelete(container=job.container))


def test_an_asker_that_leaves_is_forgotten(bench: Bench) -> None:
    connection = redeem(bench.do(RuntimeAttach(container="a" * 64)))
    until(lambda: bench.waiting("a" * 64))
    connection.close()
    until(lambda: not bench.waiting("a" * 64))


def test_a_new_driver_adopts_what_runs_and_reports_what_has_ended(bench: Bench) -> None:
    running, ended = bench.job("sleep", "60"), bench.job("sh", "-c", "sleep 0.2; exit 5")
    started: RuntimeStarted = bench.do(running)
    bench.do(ended)
    bench.driver = bench.new_driver()
    listed = {entry.container: entry for entry in bench.do(RuntimeList())}
    assert listed[running.container].pid == started.pid
    assert listed[running.container].exit_code is None
    assert bench.exit_of(ended.container).exit_code == 5
    late = bench.new_driver()
    assert {e.container: e.exit_code for e in late.containers.known()}[ended.container] == 5
    bench.do(RuntimeKill(container=running.container, signal=signal.SIGKILL))
    assert bench.exit_of(running.container).exit_code == 137


def test_a_killed_monitor_is_noticed_and_the_end_too(bench: Bench) -> None:
    job = bench.job("sleep", "60")
    started = bench.do(job)
    os.kill(started.monitor_pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{started.monitor_pid}").exists())
    os.kill(started.pid, 0)  # the container lives on
    bench.do(RuntimeKill(container=job.container, signal=signal.SIGKILL))
    exit_ = bench.exit_of(job.container)
    assert (exit_.exit_code, exit_.error) == (137, "the monitor was lost, and with it the exit status")
    (listed,) = bench.do(RuntimeList())
    assert (listed.exit_code, listed.error) == (137, exit_.error)


def test_who_attaches_to_what_has_lost_its_monitor_is_told_at_once(bench: Bench) -> None:
    job = bench.job("sleep", "60")
    started = bench.do(job)
    os.kill(started.monitor_pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{started.monitor_pid}").exists())
    with redeem(bench.do(RuntimeAttach(container=job.container))) as connection:
        connection.settimeout(5)
        assert connection.recv(1) == b""


def test_a_half_done_start_is_undone_by_the_next_driver(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(BaseException):
        pass

    def die(self: Crun, container: str) -> None:
        raise Died

    job = bench.job("sleep", "60")
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(Crun, "start", die)
        patch.setattr(Containers, "_remove", lambda self, bundle: None)
        bench.do(job)
    assert leftovers()
    bench.driver = bench.new_driver()
    assert not bench.do(RuntimeList())
    assert not leftovers()
    bench.do(job)


def test_a_generation_that_runs_is_not_started_again_and_an_old_one_makes_way(bench: Bench) -> None:
    job = bench.job("sleep", "60")
    bench.do(job)
    with pytest.raises(Conflict):
        bench.do(job)
    import msgspec

    newer = msgspec.structs.replace(job, generation=2)
    assert bench.do(newer).pid
    (entry,) = bench.do(RuntimeList())
    assert entry.generation == 2


def test_delete_is_idempotent(bench: Bench) -> None:
    for _ in range(2):
        bench.do(RuntimeDelete(container="b" * 64))


def exec_job(job: RuntimeStart, *args: str, attach: bool = False) -> RuntimeExec:
    return RuntimeExec(
        exec=os.urandom(32).hex(), container=job.container, generation=job.generation, args=list(args),
        env=["PATH=/bin"], hostname="inside", working_dir="/", user="", group_add=[], tty=False, stdin=False,
        attach=attach, privileged=False,
    )  # fmt: skip


def end_of(bench: Bench, exec_id: str) -> ExecExited:
    return until(
        lambda: next((j for j in list(bench.bus.calls) if isinstance(j, ExecExited) and j.exec == exec_id), None)
    )


def test_an_exec_runs_once_and_its_end_is_told(bench: Bench) -> None:
    job = bench.job("sleep", "1000")
    bench.do(job)
    request = exec_job(job, "sh", "-c", "echo x >> /tmp/ran; sleep 0.3; exit 5")
    started = bench.do(request)
    assert bench.do(request) == started
    assert [entry.exec for entry in bench.do(RuntimeExecList())] == [request.exec]
    assert end_of(bench, request.exec).exit_code == 5
    until(lambda: not bench.do(RuntimeExecList()))
    assert (bench.rootfs / "tmp" / "ran").read_text() == "x\n"
    (bench.rootfs / "tmp" / "ran").unlink()


def test_an_exec_that_cannot_run_leaves_nothing(bench: Bench) -> None:
    job = bench.job("sleep", "1000")
    bench.do(job)
    for args, error in ((["nonesuch"], CommandNotFound), (["/etc"], CommandNotExecutable)):
        with pytest.raises(error, match="OCI runtime exec failed: exec failed"):
            bench.do(exec_job(job, *args))
    bench.do(RuntimeKill(container=job.container, signal=9))
    bench.exit_of(job.container)
    with pytest.raises(Conflict, match="is not running"):
        bench.do(exec_job(job, "true"))
    assert not list((bench.config.run / "execs").iterdir())


@pytest.mark.parametrize("said", [True, False], ids=["its pid is known", "it has not said its pid yet"])
def test_an_exec_that_nobody_has_fetched_does_not_run_and_a_new_driver_undoes_it(bench: Bench, said: bool) -> None:
    job = bench.job("sleep", "1000")
    bench.do(job)
    request = exec_job(job, "touch", "/tmp/ran", attach=True)
    outcome: list[BaseException] = []

    def ask() -> None:
        try:
            bench.do(request)
        except Unavailable as error:
            outcome.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    bundle = ExecBundle.of_exec(bench.config.run, request.exec, job.container)
    until(lambda: bundle.monitor_pid() and request.exec in bench.driver.execs._handovers)
    assert bundle.is_waiting()
    assert not bench.do(RuntimeExecList())
    pid = bundle.monitor_pid()
    if not said:
        (bundle.directory / "monitor.pid").unlink()
    old, bench.driver = bench.driver, bench.new_driver()
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert not bundle.directory.exists()
    old.execs._handovers[request.exec].give_up()
    asker.join(5)
    assert "nobody fetched the session" in str(outcome[0])
    assert not (bench.rootfs / "tmp" / "ran").exists()
