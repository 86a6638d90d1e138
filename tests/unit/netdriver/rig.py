"""A host of our own for tests: a network namespace that the test's thread enters, and a run directory."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import msgspec

from services.netdriver.firewall import Firewall
from services.netdriver.handlers import drivers
from services.netdriver.netdriver import NetDriver
from services.netdriver.netns import CLONE_NEWNET, remove
from shared.protocol import AllocateInterface, BridgeNetwork, Interface, MakeNetwork, PortBinding
from shared.runtime.config import Config

alive: list[NetDriver] = []
libc = ctypes.CDLL(None, use_errno=True)
HOST_ADDRESS, WORLD_ADDRESS = "198.18.0.2", "198.18.0.1"
HOST6, WORLD6 = "fd98::2", "fd98::1"


@contextmanager
def own_netns(run: Path) -> Iterator[None]:
    """Put the calling thread, and threads it starts, into a new namespace with an uplink to another, the world."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    world = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        until(lambda: Path(f"/proc/{world.pid}/ns/net").readlink() != Path("/proc/thread-self/ns/net").readlink())
        ip("link set lo up")
        ip(f"link add uplink mtu 1400 type veth peer name world netns {world.pid}")
        ip(f"address add {HOST_ADDRESS}/24 dev uplink")
        ip("link set uplink up")
        for command in (f"address add {WORLD_ADDRESS}/24 dev world", "link set world up", "link set lo up"):
            shell(f"nsenter --net=/proc/{world.pid}/ns/net ip {command}")
        ip(f"route add default via {WORLD_ADDRESS}")
        os.environ["WORLD"] = f"/proc/{world.pid}/ns/net"
        yield
    finally:
        while alive:
            die(alive[-1])
        del os.environ["WORLD"]
        world.kill()
        world.wait()
        for path in (run / "netns").glob("*"):
            remove(path)
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)


def make(run: Path, **settings: object) -> NetDriver:
    """Return a NetDriver as a new process would have it."""
    config = Config(run=run, **settings)  # type: ignore[arg-type]
    firewall = Firewall.of(config)
    netdriver = NetDriver(config, drivers(config, firewall), firewall)
    alive.append(netdriver)
    return netdriver


def die(netdriver: NetDriver) -> None:
    """Let go what a process that is killed lets go: the sockets that hold ports, and the library's."""
    bridge = netdriver._networks._default
    bridge._ports.release(list(bridge._ports._held))
    bridge._firewall._nft.close()
    netdriver.resolvers.close()
    alive.remove(netdriver)


def killed_at(step: int, run: Path, operation: Callable[[NetDriver], object]) -> bool:
    """Run ``operation`` in a process that dies, unprepared, after so many calls to C; tell whether it died."""
    pid = os.fork()
    if pid == 0:
        left = step

        def count(frame: FrameType, event: str, _argument: object) -> None:
            nonlocal left
            if event == "c_call" and "services/netdriver" in frame.f_code.co_filename:
                if left == 0:
                    os._exit(9)
                left -= 1

        driver = make(run)
        driver._ensure_initialised()
        threading.setprofile(count)
        sys.setprofile(count)
        operation(driver)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


def container(number: int) -> str:
    return f"{number:064x}"[::-1]


def want(number: int, generation: int = 1, mode: str = "bridge", **ports: str) -> AllocateInterface:
    """Ask for an interface; ``ports`` as ``tcp80="8080"``."""
    bindings = {f"{key[3:]}/{key[:3]}": [PortBinding(host_port=value)] for key, value in ports.items()}
    return AllocateInterface(container=container(number), generation=generation, mode=mode, ports=bindings)


def id_of(name: str) -> str:
    """Return the id of a network of that name."""
    return name.encode().hex().ljust(64, "0")


def network(net: NetDriver, name: str, **options: object) -> BridgeNetwork:
    asked = BridgeNetwork(id=id_of(name), name=name, **options)  # type: ignore[arg-type]
    return net.make_network(MakeNetwork(network=asked))


def join(driver: NetDriver, number: int, name: str, generation: int = 1, **options: object) -> Interface:
    job = msgspec.structs.replace(want(number, generation), network=id_of(name), **options)  # type: ignore[arg-type]
    return driver.allocate(job)


def world(command: str) -> str:
    """Run a command outside, at the other end of the uplink."""
    return shell(f"nsenter --net={os.environ['WORLD']} {command}")


def add_ipv6() -> None:
    """Give the uplink addresses of IPv6, on both ends."""
    ip(f"address add {HOST6}/64 dev uplink nodad")
    ip(f"route add default via {WORLD6}")
    world(f"ip address add {WORLD6}/64 dev world nodad")


def ip(arguments: str) -> str:
    return shell(f"ip {arguments}")


def shell(command: str) -> str:
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def pings(netns: str, address: str) -> bool:
    """Say whether one of three pings is answered: a busy machine loses the first."""
    command = ["nsenter", f"--net={netns}", "busybox", "ping", "-c1", "-W1", address]
    return any(not subprocess.run(command, capture_output=True, timeout=10, check=False).returncode for _ in range(3))


@contextmanager
def server(interface: Interface, text: str, port: int = 80) -> Iterator[None]:
    """Answer TCP connections inside a container's namespace with ``text``."""
    command = f"exec nsenter --net={interface.netns} busybox nc -ll -p {port} -e echo {text}"
    process = subprocess.Popen(["sh", "-c", command])
    listening = f":{port:04X} 00000000:0000 0A"
    try:
        until(lambda: listening in Path(f"/proc/{process.pid}/net/tcp").read_text() + _tcp6(process.pid, port))
        yield
    finally:
        process.kill()
        process.wait()


def _tcp6(pid: int, port: int) -> str:
    lines = Path(f"/proc/{pid}/net/tcp6").read_text().splitlines()
    return f":{port:04X} 00000000:0000 0A" if any(f":{port:04X} " in line for line in lines) else ""


def fetch(address: str, port: int, netns: str = "/proc/thread-self/ns/net") -> str:
    """Connect from a namespace and return what the server says; empty when it cannot be reached."""
    own = netns == "/proc/thread-self/ns/net"
    enter = [] if own else ["nsenter", f"--net={netns}"]
    command = [*enter, "busybox", "timeout", "2", "busybox", "nc", address, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL)
    return done.stdout.strip()


def veths() -> set[str]:
    """Return the names of the veth host ends that are up."""
    lines = ip("-o link show type veth up").splitlines()
    names = {line.split(": ")[1].split("@")[0] for line in lines}
    return {name for name in names if name.startswith("dyv")}


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)
