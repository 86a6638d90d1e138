"""CYCLES networks come and go, with two containers each, while processes are killed at chance moments: nothing is left.

Part of `make outliving` (SEED=…, CYCLES=…). It prints its seed; the same seed makes the same plan.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import until
from tests.outliving.host import Host

pytestmark = pytest.mark.root

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
CYCLES = int(os.environ.get("CYCLES") or 500)
EACH = 20  # cycles from check to check
KILLED = ("engine", "netdriver", "execdriver", "graphdriver", "dns", "reader", "builder", "apiserver")
KILLS = 0.07  # of the steps: as many as the arbiter puts up with
DONE = {
    "create": 409,
    "start": 304,
    "connect": 403,
    "kill": 409,
}  # what one is told who asks for what is done; else 404
PATIENCE = 60.0  # seconds
Step = tuple[str, str, Any, int]  # method, path, body, status


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp"))).start()
    try:
        made.dockyard("busybox")
        yield made
    finally:
        made.close()


def test_networks_and_containers_come_and_go_and_leave_nothing(host: Host) -> None:
    print(f"SEED={SEED} CYCLES={CYCLES}", flush=True)
    chance, kills, ports = random.Random(SEED), Counter[str](), set[int]()
    before, had, lifecycles = rules(host), addresses(host), 0
    sinks = descriptors(host)
    for number in range(CYCLES):
        for step in coming(number, chance):
            kills.update(take(host, step, chance))
        ports |= published(host, f"one{number}")
        lifecycles += len(host.api("GET", "/containers/json")[1])
        for step in going(number, chance):
            kills.update(take(host, step, chance))
        if (number + 1) % EACH == 0 or number + 1 == CYCLES:
            print(f"{number + 1} networks, {sum(kills.values())} kills", flush=True)
            host.wait_whole()
            host.check_leaks(on_bridge=0, alive=0, execs=0)
            assert rules(host) == before
            assert addresses(host) == had
            assert host.api("GET", "/containers/json?all=1")[1] == []
            assert len(host.api("GET", "/networks")[1]) == 3
            assert taken(host, ports) == []
    assert len(ports) > 1
    print(
        f"{CYCLES} networks and {lifecycles} containers have come and gone, {sum(kills.values())} kills: {kills}",
        flush=True,
    )
    assert lifecycles == 2 * CYCLES
    assert CYCLES < EACH or set(kills) == set(KILLED)
    until(lambda: descriptors(host) <= sinks, PATIENCE, f"namespaces are held: {descriptors(host)}, {sinks} before")


def coming(number: int, chance: random.Random) -> list[Step]:
    """Two containers: one in a new network, that publishes a port, one in the same or the default one."""
    name = f"n{number}"
    network = {"Name": name, "EnableIPv6": chance.random() < 0.3}
    first = made(name, PortBindings={"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})
    steps: list[Step] = [
        ("POST", "/networks/create", network, 201),
        ("POST", f"/containers/create?name=one{number}", first, 201),
        ("POST", f"/containers/create?name=two{number}", made(chance.choice([name, "bridge"])), 201),
        ("POST", f"/containers/one{number}/start", None, 204),
        ("POST", f"/containers/two{number}/start", None, 204),
    ]
    if chance.random() < 0.3:
        steps.append(("POST", "/networks/bridge/connect", {"Container": f"one{number}"}, 200))
    return steps


def made(network: str, **host_config: Any) -> dict[str, Any]:
    return {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": network, **host_config}}


def going(number: int, chance: random.Random) -> list[Step]:
    steps: list[Step] = []
    if chance.random() < 0.3:
        steps.append(("POST", f"/containers/one{number}/kill", None, 204))
    steps += [("DELETE", f"/containers/{name}{number}?force=1", None, 204) for name in ("one", "two")]
    return [*steps, ("DELETE", f"/networks/n{number}", None, 204)]


def take(host: Host, step: Step, chance: random.Random) -> list[str]:
    """Do one step, which must work whatever is killed meanwhile; returns what was.

    Whose API process is killed gets no answer, and asks again.
    """
    method, path, body, status = step
    victim, after, fatal = chance.choice(KILLED), chance.uniform(0, 0.15), chance.random() < KILLS
    if not (fatal and host.may_end(victim)):
        answer = host.api(method, path, body)
        assert answer[0] == status, (step, answer)
        return []
    answers: list[Any] = []
    asking = threading.Thread(target=kept(lambda: host.api(method, path, body), answers))
    asking.start()
    time.sleep(after)  # the moment is the point: by chance in the middle of it
    host.kill(victim)
    host.wait_whole()
    asking.join(PATIENCE)
    if victim == "apiserver" and answers and not answers[0][0]:
        done = DONE.get(path.partition("?")[0].rpartition("/")[2], 404)
        until(lambda: host.api(method, path, body)[0] in (status, done), PATIENCE, f"asked again: {step}, {answers}")
    else:
        assert answers and answers[0][0] == status, (step, victim, answers or "no answer")
    return [victim]


def kept(function: Callable[[], Any], answers: list[Any]) -> Callable[[], None]:
    def run() -> None:
        try:
            answers.append(function())
        except Exception as error:  # told by who joins
            answers.append((0, repr(error)))

    return run


def published(host: Host, name: str) -> set[int]:
    shown = host.inspect(name)["NetworkSettings"]["Ports"]
    return {int(binding["HostPort"]) for bindings in shown.values() for binding in bindings or []}


def rules(host: Host) -> dict[str, Any]:
    """Return the elements of the sets and maps of the stack's table, by name."""
    table = f"inet dockyard_{host.environ['DOCKYARD_BRIDGE']}"
    listed = subprocess.run([*host.enter, "nft", "-j", *f"list table {table}".split()], capture_output=True, check=True)
    found = [one.get("set") or one.get("map") for one in json.loads(listed.stdout)["nftables"]]
    return {one["name"]: one.get("elem", []) for one in found if one}


def addresses(host: Host) -> set[str]:
    """Return the links, addresses and routes of the host's namespace, without their states."""
    found = set[str]()
    for command, words in (
        ("link show", slice(1, 2)),
        ("address show", slice(1, 4)),
        ("-4 route show table all", slice(0, 4)),
        ("-6 route show table all", slice(0, 4)),
    ):
        listed = subprocess.run([*host.enter, "ip", "-o", *command.split()], capture_output=True, text=True, check=True)
        found |= {" ".join(line.split()[words]) for line in listed.stdout.splitlines()}
    return found


def descriptors(host: Host) -> int:
    """Return how many namespaces of containers something holds: as a mount, or as the DNS server's sockets."""
    mounts = sum("nsfs" in line and str(host.run) in line for line in Path("/proc/mounts").read_text().splitlines())
    return mounts + sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in host.pids("dns"))


def taken(host: Host, ports: set[int]) -> list[int]:
    """Return those of the ports that somebody still holds."""
    script = """
import json, socket, sys
held = []
for port in json.load(sys.stdin):
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            held.append(port)
print(json.dumps(held))
"""
    command = [*host.enter, sys.executable, "-c", script]
    done = subprocess.run(command, input=json.dumps(sorted(ports)), capture_output=True, text=True, check=True)
    found: list[int] = json.loads(done.stdout)
    return found
