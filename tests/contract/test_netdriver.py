"""The contract of the netdriver, on a host of its own (see `rig`): what the kernel has is what the leases say."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from services.netdriver.bridge import BridgeDriver
from services.netdriver.firewall import Firewall
from services.netdriver.netdriver import NetDriver
from services.netdriver.netns import exists
from services.netdriver.nft import Nft
from services.netdriver.veth import veth_name
from shared.bus.sockets import bind, engine_endpoint
from shared.protocol import (
    AllocateInterface,
    AllocatePort,
    Bridge,
    Conflict,
    DockyardError,
    Frame,
    Header,
    InitNetworkDriver,
    Interface,
    InvalidArgument,
    Kind,
    NotFound,
    PortBinding,
    Registration,
    Unavailable,
    decode_body,
    encode_body,
    job_name,
    new_id,
)
from shared.runtime.config import Config
from shared.runtime.loading import to_environ
from tests.unit.netdriver.rig import (
    HOST_ADDRESS,
    WORLD_ADDRESS,
    container,
    die,
    fetch,
    ip,
    killed_at,
    make,
    pings,
    server,
    shell,
    until,
    veths,
    want,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
MODES = ("bridge", "none")
TABLE = "dockyard_dockyard0"
GOLDEN = Path(__file__).parents[1] / "golden" / "netdriver" / "table.nft"


LATE_CONTEXT = """
import os, resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
from services.netdriver.nft import Nft, NftError
early = Nft()
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
print(early.run("add table ip early; list tables").strip())
try:
    Nft()
except NftError as error:
    print(error)
"""


def test_only_a_context_made_before_a_thousand_descriptors_works_and_the_other_is_an_error() -> None:
    """libnftables waits by select(2): with a descriptor of 1024 or more it would abort the process."""
    command = ["unshare", "--net", sys.executable, "-c", LATE_CONTEXT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    early, late = result.stdout.splitlines()
    assert early == "table ip early"
    assert "descriptors" in late


def elements(table: str = TABLE) -> set[tuple[str | int, ...]]:
    """Return the published ports the kernel knows: ([host ip,] protocol, host port, address, container port)."""
    found = set()
    for name in ("published4", "published_at4"):
        listing = json.loads(shell(f"nft -j list map inet {table} {name}"))["nftables"]
        for key, value in next(one["map"] for one in listing if "map" in one).get("elem", []):
            found.add((*key["concat"], *value["concat"]))
    return found


def check_consistent(driver: NetDriver, run: Path) -> None:
    """The kernel has what the leases say, and nothing else."""
    leases = driver._leases.all()
    bridged = [lease for lease in leases if lease.interface.mode == "bridge"]
    assert veths() == {veth_name(lease) for lease in bridged}
    assert {path.name for path in (run / "netns").iterdir()} == {lease.container for lease in leases}
    assert all(exists(run / "netns" / lease.container) for lease in leases)
    assert elements() == {
        (port.protocol, port.host_port, lease.interface.address, port.container_port)
        for lease in bridged
        for port in lease.interface.ports
    }
    assert {path.stem for path in (run / "leases").iterdir()} == {lease.container for lease in leases}


def check_empty(driver: NetDriver, run: Path) -> None:
    assert driver.interfaces() == {}
    check_consistent(driver, run)
    until(lambda: "dyv" not in ip("-o link"))  # the kernel takes a namespace's links away in its own time


def test_a_list_that_is_older_than_a_lease_takes_nothing_from_it(netdriver: NetDriver, run: Path) -> None:
    """The driver is new, the engine tells it what there is, and meanwhile a container is started."""
    netdriver.allocate(want(1))
    netdriver.init({}, exact=False)
    assert len(netdriver.interfaces()) == 1
    check_consistent(netdriver, run)
    later = make(run)
    later.init({}, exact=False)
    check_empty(later, run)
    later.allocate(want(2))
    later.init({}, exact=True)
    check_empty(later, run)


def test_what_was_given_again_is_as_new_as_what_was_given(netdriver: NetDriver, run: Path) -> None:
    """A start that its driver did not live to see the end of is made again, while the list is on its way."""
    netdriver.allocate(want(1))
    later = make(run)
    later.allocate(want(1))
    later.init({}, exact=False)
    assert len(later.interfaces()) == 1
    check_consistent(later, run)


# --- the process ----------------------------------------------------------------------------------------------------


def test_the_process_serves_its_jobs_and_stops_when_asked(run: Path) -> None:
    context = zmq.Context()
    engine = context.socket(zmq.ROUTER)
    bind(engine, engine_endpoint(run))
    environ = os.environ | to_environ(Config(run=run, bridge="dk7"))
    process = subprocess.Popen([sys.executable, "-m", "services.netdriver"], env=environ)
    try:
        identity, frame = receive(engine, Kind.REGISTER)
        assert "allocate_interface" in decode_body(frame.body, Registration).names
        for job, kind in ((InitNetworkDriver(containers={}), Bridge), (want(1, tcp80="8080"), Interface)):
            header = Header(id=new_id(), name=job_name(job))
            engine.send_multipart([identity, *Frame(Kind.JOB, header, encode_body(job)).parts()])
            _, answer = receive(engine, Kind.RESULT)
            assert answer.header.status == 0
            assert isinstance(decode_body(answer.body, kind), kind)
        process.terminate()
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
        context.destroy(0)
    assert elements("dockyard_dk7") == {("tcp", 8080, "172.30.0.2", 80)}  # containers outlive us


def receive(engine: zmq.Socket[bytes], kind: Kind) -> tuple[bytes, Frame]:
    """Return who sent the next frame of ``kind``, and the frame."""
    while engine.poll(10_000):
        identity, *parts = engine.recv_multipart()
        frame = Frame.parse(parts)
        if frame.kind is kind:
            return identity, frame
    raise AssertionError(f"no {kind} came")


# --- every mode -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_allocate_is_idempotent_and_release_leaves_nothing(netdriver: NetDriver, run: Path, mode: str) -> None:
    job = want(1, mode=mode, tcp80="8080")
    interface = netdriver.allocate(job)
    assert interface.mode == mode
    assert shell(f"nsenter --net={interface.netns} ip -br address show lo").split()[2] == "127.0.0.1/8"
    assert netdriver.allocate(job) == interface
    assert netdriver.interfaces() == {job.container: [interface]}
    check_consistent(netdriver, run)
    netdriver.release(job.container, 0)  # of another generation: not ours to give back
    assert netdriver.interfaces() == {job.container: [interface]}
    netdriver.release(job.container, 1)
    check_empty(netdriver, run)
    netdriver.release(job.container, None)
    netdriver.release(container(99), 7)


@pytest.mark.parametrize("mode", MODES)
def test_a_new_generation_replaces_the_old_and_an_old_one_is_refused(
    netdriver: NetDriver, run: Path, mode: str
) -> None:
    old = netdriver.allocate(want(1, generation=1, mode=mode, tcp80="8080"))
    shell(f"nsenter --net={old.netns} ip link add mark type bridge")
    new = netdriver.allocate(want(1, generation=2, mode=mode, tcp80="8080"))
    assert "mark" not in shell(f"nsenter --net={new.netns} ip link")
    assert new.ports == old.ports
    with pytest.raises(Conflict):
        netdriver.allocate(want(1, generation=1, mode=mode))
    check_consistent(netdriver, run)


@pytest.mark.parametrize("mode", MODES)
def test_a_restarted_driver_goes_on_with_what_is_there(netdriver: NetDriver, run: Path, mode: str) -> None:
    interface = netdriver.allocate(want(1, mode=mode, tcp80="8080"))
    inode = Path(interface.netns).stat().st_ino
    die(netdriver)
    again = make(run)
    assert again.interfaces() == {container(1): [interface]}
    assert again.allocate(want(1, mode=mode)) == interface  # before any init_networkdriver
    assert Path(interface.netns).stat().st_ino == inode
    again.init({container(1): 1})
    assert Path(interface.netns).stat().st_ino == inode
    check_consistent(again, run)
    if mode == "bridge":
        assert again.allocate(want(2)).address != interface.address
        with pytest.raises(Conflict):
            again.allocate(want(3, tcp80="8080"))
    again.init({container(1): 2})
    check_empty(again, run)


@pytest.mark.parametrize("mode", MODES)
def test_init_removes_what_no_lease_wants(netdriver: NetDriver, run: Path, mode: str) -> None:
    netdriver.allocate(want(1, mode=mode, tcp80="8080"))
    kept = netdriver.allocate(want(2, mode=mode, tcp80="8081"))
    (run / "netns" / container(5)).touch()
    ip("link add dyvstray type veth peer name straypeer")
    ip("link set dyvstray master dockyard0 up")
    ip("link add dyvforeign type veth peer name foreignpeer")  # not on our bridge
    shell(f"nft add element inet {TABLE} published4 {{ tcp . 99 : 172.30.0.99 . 99 }}")
    netdriver.init({container(2): 1})
    assert netdriver.interfaces() == {container(2): [kept]}
    assert "dyvforeign" in ip("-o link")
    check_consistent(netdriver, run)


def test_a_damaged_lease_is_as_if_it_were_not(netdriver: NetDriver, run: Path) -> None:
    netdriver.allocate(want(1, tcp80="8080"))
    die(netdriver)
    (run / "leases" / f"{container(1)}.json").write_bytes(b"")
    again = make(run)
    again.init({container(1): 1})
    check_empty(again, run)


@pytest.mark.parametrize("name", ["", "web", "../../etc/passwd", "a" * 65, "A" * 64])
def test_only_ids_are_taken_for_ids(netdriver: NetDriver, name: str) -> None:
    with pytest.raises(InvalidArgument):
        netdriver.allocate(AllocateInterface(container=name, generation=1, mode="none"))


# --- mode none ------------------------------------------------------------------------------------------------------


def test_mode_none_has_lo_and_nothing_else(netdriver: NetDriver) -> None:
    interface = netdriver.allocate(want(1, mode="none"))
    assert len(shell(f"nsenter --net={interface.netns} ip -br link").splitlines()) == 1
    with pytest.raises(Conflict):
        netdriver.publish(AllocatePort(container=container(1), container_port=80))


# --- the bridge -----------------------------------------------------------------------------------------------------


def test_the_bridge(run: Path) -> None:
    ip("route add 172.30.7.0/24 dev uplink")
    bridge = make(run).init({})
    assert (bridge.name, bridge.address, bridge.subnet) == ("dockyard0", "172.31.0.1/16", "172.31.0.0/16")
    assert bridge.mtu == 1400  # the default route's
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    ip("route del 172.30.7.0/24 dev uplink")
    assert make(run).init({}) == bridge  # that there is now, not the first that could be


def test_the_bridge_by_configuration(run: Path) -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")  # a new namespace inherits the host's
    bridge = make(run, bridge="dk1", bip="10.7.0.1/24", mtu=1300, ip_forward=False).init({})
    assert (bridge.address, bridge.mtu) == ("10.7.0.1/24", 1300)
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    with pytest.raises(Conflict, match="not a bridge"):
        make(run, bridge="uplink").init({})


def test_two_stacks_on_one_host(netdriver: NetDriver, run: Path) -> None:
    other = make(run / "other", bridge="dk1")
    assert other.init({}).address == "172.31.0.1/16"
    mine, theirs = netdriver.allocate(want(1, tcp80="8080")), other.allocate(want(1, generation=2, tcp80="8081"))
    with pytest.raises(Conflict):
        other.allocate(want(2, tcp80="8080"))
    netdriver.init({container(1): 1})
    assert not pings(mine.netns, theirs.address)  # only what is published
    assert pings(theirs.netns, theirs.gateway)
    assert elements("dockyard_dk1") == {("tcp", 8081, theirs.address, 80)}
    other.release(container(1), None)


def test_containers_reach_each_other_the_host_and_the_world(netdriver: NetDriver) -> None:
    one, two = netdriver.allocate(want(1)), netdriver.allocate(want(2))
    assert pings(one.netns, two.address)
    assert pings(one.netns, one.gateway)
    assert pings(one.netns, WORLD_ADDRESS)  # which knows no way back to our subnet: this was masqueraded
    assert not fetch("127.0.0.1", 80, one.netns)


def test_without_icc_they_reach_the_world_but_not_each_other(run: Path) -> None:
    driver = make(run, icc=False)
    one, two = driver.allocate(want(1)), driver.allocate(want(2))
    assert pings(one.netns, WORLD_ADDRESS)
    assert not pings(one.netns, two.address)


@pytest.mark.parametrize("text", ["02:00:00:00:AB:01", "02-00-00-00-ab-01", "0200.0000.AB01"])
def test_the_mac_address_asked_for(netdriver: NetDriver, text: str) -> None:
    job = AllocateInterface(container=container(1), generation=1, mode="bridge", mac_address=text)
    interface = netdriver.allocate(job)
    assert interface.mac_address == "02:00:00:00:ab:01"
    assert "02:00:00:00:ab:01" in shell(f"nsenter --net={interface.netns} ip link show eth0")


@pytest.mark.parametrize(
    "text", ["01:00:00:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00:01:02:03", "02-00:00:00:00:01", "x"]
)
def test_what_is_no_mac_address_of_one_host(netdriver: NetDriver, text: str) -> None:
    job = AllocateInterface(container=container(1), generation=1, mode="bridge", mac_address=text)
    with pytest.raises(InvalidArgument, match=f"^invalid MAC address: {text}$"):
        netdriver.allocate(job)
    assert netdriver.interfaces() == {}


def test_when_no_address_is_left(run: Path) -> None:
    driver = make(run, bip="10.7.0.1/30")
    driver.allocate(want(1))
    with pytest.raises(DockyardError, match=r"no available IPv4 addresses in 10.7.0.0/30") as caught:
        driver.allocate(want(2, tcp80="8080"))
    assert not isinstance(caught.value, Unavailable)  # whoever hears that asks again, for ten seconds
    driver.release(container(1), None)
    assert driver.allocate(want(2, tcp80="8080")).address == "10.7.0.2"
    check_consistent(driver, run)


def test_a_bridge_that_vanished_comes_back_with_its_containers(netdriver: NetDriver, run: Path) -> None:
    one, two = netdriver.allocate(want(1)), netdriver.allocate(want(2))
    ip("link delete dockyard0")
    netdriver.allocate(want(3))
    ip("link delete dockyard0")
    ip("address add 172.30.77.1/24 dev uplink")  # the pool would not be chosen again: the leases decide
    die(netdriver)
    again = make(run)
    again.init({container(1): 1, container(2): 1, container(3): 1})
    assert pings(one.netns, two.address)
    assert pings(two.netns, two.gateway)
    check_consistent(again, run)


def test_a_namespace_that_lost_its_link_gets_it_again(netdriver: NetDriver, run: Path) -> None:
    one = netdriver.allocate(want(1))
    ip(f"link delete {next(iter(veths()))}")
    netdriver.init({container(1): 1})
    assert pings(one.netns, one.gateway)
    check_consistent(netdriver, run)


def test_many_at_a_time(netdriver: NetDriver, run: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: netdriver.allocate(want(number, tcp80="")), range(1, 41)))
        assert len({interface.address for interface in made}) == 40
        assert len({interface.ports[0].host_port for interface in made}) == 40
        check_consistent(netdriver, run)
        list(pool.map(lambda number: netdriver.release(container(number), 1), range(1, 41)))
    check_empty(netdriver, run)


# --- published ports ------------------------------------------------------------------------------------------------


def test_a_published_port_is_reached_from_everywhere(netdriver: NetDriver) -> None:
    one, two = netdriver.allocate(want(1, tcp80="8080")), netdriver.allocate(want(2))
    world = os.environ["WORLD"]
    with server(one, "hello"):
        assert fetch("127.0.0.1", 8080) == "hello"
        assert fetch(one.gateway, 8080) == "hello"
        assert fetch(HOST_ADDRESS, 8080) == "hello"
        assert fetch(HOST_ADDRESS, 8080, world) == "hello"
        assert fetch(HOST_ADDRESS, 8080, two.netns) == "hello"
        assert fetch(HOST_ADDRESS, 8080, one.netns) == "hello"
        assert fetch(one.address, 80, two.netns) == "hello"
        shell(f"nsenter --net={world} ip route add 172.30.0.0/16 via {HOST_ADDRESS}")
        assert fetch(one.address, 80, world) == ""  # only what is published
        netdriver.release(container(1), None)
        assert fetch("127.0.0.1", 8080) == ""


def test_a_port_on_one_address_is_not_on_others(netdriver: NetDriver) -> None:
    ports = {"80/tcp": [PortBinding(host_ip="127.0.0.1", host_port="8080")]}
    one = netdriver.allocate(AllocateInterface(container=container(1), generation=1, mode="bridge", ports=ports))
    with server(one, "hello"):
        assert fetch("127.0.0.1", 8080) == "hello"
        assert fetch(HOST_ADDRESS, 8080) == ""
        assert fetch(HOST_ADDRESS, 8080, os.environ["WORLD"]) == ""


def test_containers_do_not_reach_the_hosts_loopback(netdriver: NetDriver) -> None:
    one = netdriver.allocate(want(1))
    inside = f"nsenter --net={one.netns}"
    shell(f"{inside} busybox sysctl -w net.ipv4.conf.eth0.route_localnet=1")
    shell(f"{inside} ip route del local 127.0.0.0/8 dev lo table local")
    shell(f"{inside} ip route add 127.0.0.2/32 via {one.gateway} src {one.address}")
    with socket.create_server(("127.0.0.2", 9000)) as listener:
        listener.settimeout(0.2)
        assert fetch("127.0.0.2", 9000, one.netns) == ""
        with pytest.raises(TimeoutError):
            listener.accept()


def test_conflicts(netdriver: NetDriver, run: Path) -> None:
    netdriver.allocate(want(1, tcp80="8080"))
    message = r"^Bind for 0.0.0.0:8080 failed: port is already allocated$"
    with pytest.raises(Conflict, match=message):
        netdriver.allocate(want(2, tcp80="8080"))
    with socket.create_server(("0.0.0.0", 8081)), pytest.raises(Conflict):
        netdriver.allocate(want(2, tcp80="8081"))
    assert netdriver.allocate(want(2, tcp80="8080-8082")).ports[0].host_port == 8081
    check_consistent(netdriver, run)


def test_publish_one_more(netdriver: NetDriver, run: Path) -> None:
    one = netdriver.allocate(want(1, tcp80="8080"))
    job = AllocatePort(container=container(1), container_port=81, host_port="8081")
    port = netdriver.publish(job)
    assert netdriver.publish(job) == port
    assert netdriver.publish(AllocatePort(container=container(1), container_port=82)).host_port > 1024
    assert netdriver.interfaces()[container(1)][0].ports[1] == port
    with pytest.raises(Conflict):
        netdriver.publish(AllocatePort(container=container(1), container_port=82, host_port="8081"))
    with pytest.raises(NotFound):
        netdriver.publish(AllocatePort(container=container(2), container_port=81))
    check_consistent(netdriver, run)
    with server(one, "more", port=81):
        assert fetch("127.0.0.1", 8081) == "more"
    netdriver.release(container(1), None)
    check_empty(netdriver, run)


def test_the_golden_table_is_one_that_the_kernel_takes(run: Path) -> None:
    Nft().run(GOLDEN.read_text())
    assert len(elements()) == 3


def test_the_table_comes_back_after_a_foreign_flush(run: Path) -> None:
    driver, stop = make(run), threading.Event()
    driver.allocate(want(1, tcp80="8080"))
    watcher = threading.Thread(target=firewall_of(driver).watch, args=(stop,))
    watcher.start()
    try:
        until(is_watched)
        for _ in range(3):
            shell("nft flush ruleset")
            until(lambda: TABLE in shell("nft list tables"))
            check_consistent(driver, run)
    finally:
        stop.set()
        watcher.join()


def firewall_of(driver: NetDriver) -> Firewall:
    bridge = driver._drivers["bridge"]
    assert isinstance(bridge, BridgeDriver)
    return bridge._firewall


def is_watched() -> bool:
    """Tell whether a socket of this host's listens to NFNLGRP_NFTABLES."""
    lines = [line.split() for line in Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]]
    return any(line[1] == "12" and int(line[3], 16) & 1 << 6 for line in lines)


def test_tables_of_others_stay_as_they_are(run: Path) -> None:
    shell("nft add table inet foreign")
    shell("nft add chain inet foreign forward { type filter hook forward priority 0 ; }")
    before = shell("nft list table inet foreign")
    driver = make(run)
    driver.init({})
    driver.allocate(want(1, tcp80="8080"))
    driver.init({})
    assert shell("nft list table inet foreign") == before


def test_a_change_finds_the_table_gone_and_brings_it_back(netdriver: NetDriver, run: Path) -> None:
    netdriver.allocate(want(1, tcp80="8080"))
    shell("nft flush ruleset")
    netdriver.allocate(want(2, tcp80="8081"))
    check_consistent(netdriver, run)


# --- killed in the middle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_an_allocate_killed_anywhere_is_made_good_by_the_next(run: Path, mode: str, generation: int) -> None:
    make(run).init({})
    step = 0
    while killed_at(step, run, lambda driver: driver.allocate(want(1, mode=mode, tcp80="8080"))):
        driver = make(run)
        interface = driver.allocate(want(1, generation=generation, mode=mode, tcp80="8080"))
        check_consistent(driver, run)
        assert mode == "none" or interface.ports[0].host_port == 8080
        assert mode == "none" or step % 10 or pings(interface.netns, interface.gateway)
        driver.init({})
        check_consistent(driver, run)
        die(driver)
        step += 1
    assert step > 10


@pytest.mark.parametrize("mode", MODES)
def test_an_allocate_killed_anywhere_is_swept_by_init(run: Path, mode: str) -> None:
    make(run).init({})
    step = 0
    while killed_at(step, run, lambda driver: driver.allocate(want(1, mode=mode, tcp80="8080"))):
        driver = make(run)
        driver.init({})
        assert driver.interfaces() == {}
        check_consistent(driver, run)
        die(driver)
        step += 1
    until(lambda: len([line for line in ip("-o link").splitlines() if "dyv" in line]) <= 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_release_killed_anywhere_is_made_good(run: Path, mode: str) -> None:
    step, killed = 0, True
    while killed:
        driver = make(run)
        driver.allocate(want(1, mode=mode, tcp80="8080"))
        die(driver)
        killed = killed_at(step, run, lambda driver: driver.release(container(1), 1))
        driver = make(run)
        if step % 2:
            driver.allocate(want(1, generation=2, mode=mode, tcp80="8080"))
            check_consistent(driver, run)
        driver.release(container(1), None)
        check_consistent(driver, run)
        die(driver)
        step += 1
    assert step > 5
