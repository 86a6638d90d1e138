"""An engine with stand-ins for the three drivers, on a bus of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from services.engine.engine import serve
from services.engine.stackid import StackId
from shared.bus.client import Client
from shared.bus.handlers import Handlers
from shared.bus.sockets import dealer, engine_endpoint
from shared.bus.worker import Worker, serve_in_thread
from shared.protocol import (
    AllocatedPort,
    AllocateInterface,
    Bridge,
    BridgeNetwork,
    CommitLayer,
    ContainerConfig,
    ContainerExited,
    ContainerStats,
    CreateLayer,
    ExecExited,
    ExportImages,
    Frame,
    GraphCollect,
    GraphStatus,
    Header,
    HeldVolume,
    Image,
    InitNetworkDriver,
    Interface,
    Job,
    Kind,
    LinkContainers,
    ListDenials,
    ListHeldVolumes,
    ListInterfaces,
    MakeNetwork,
    MakeVolume,
    MeasureVolume,
    MountLayer,
    MountVolume,
    PopulateVolume,
    Processes,
    ReleaseInterface,
    RemoveLayer,
    Running,
    RunningExec,
    RuntimeAttach,
    RuntimeDelete,
    RuntimeExec,
    RuntimeExecList,
    RuntimeExecStarted,
    RuntimeKill,
    RuntimeList,
    RuntimePause,
    RuntimeResize,
    RuntimeSetAddresses,
    RuntimeSetHost,
    RuntimeSetResolver,
    RuntimeStart,
    RuntimeStarted,
    RuntimeStats,
    RuntimeTop,
    RuntimeUnpause,
    RuntimeUpdate,
    SetImage,
    Ticket,
    UnmakeNetwork,
    UnmakeVolume,
    UnmountLayer,
    UnmountVolume,
    encode_body,
)
from shared.runtime.config import Config

IMAGE = Image(
    id="sha256:" + "b" * 64,
    architecture="amd64",
    os="linux",
    created="2026-01-01T00:00:00Z",
    config=ContainerConfig(cmd=["sh"], env=["LANG=C"], labels={"from": "image"}),
    config_size=1,
    layers=[],
    diff_ids=[],
    chain_ids=["sha256:" + "c" * 64],
    layer_sizes=[10],
    history=[],
)


class World:
    """What the stand-ins hold: it says what the kernel would. ``script``: job name → what to do instead."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.calls: list[Job[Any]] = []
        self.running: dict[str, Running] = {}
        self.pending: dict[str, RuntimeKill] = {}  # signals to what is paused
        self.execs: dict[str, RunningExec] = {}
        self.mounted: set[str] = set()
        self.layers: set[str] = set()
        self.interfaces: dict[str, dict[str, Interface]] = {}  # container → network → what it has there
        self.networks: dict[str, BridgeNetwork] = {}
        self.volumes: set[str] = set()
        self.mounted_volumes: set[str] = set()
        self.script: dict[str, Callable[[Any], Any]] = {}
        self.dying: list[threading.Thread] = []
        self.bridge = Bridge(name="dyt0", address="192.0.2.1/24", subnet="192.0.2.0/24", mtu=1500)
        self.client = Client(engine_endpoint(config.run), "test")

    def exit(self, container: str, code: int) -> None:
        self._tell_exit(self.running[container], code)

    def die(self, container: str, code: int) -> None:
        """Have a container end soon, unless it has ended otherwise and is deleted by now."""
        if (entry := self.running.get(container)) is not None:
            self.dying.append(threading.Thread(target=self._tell_exit, args=(entry, code)))
            self.dying[-1].start()

    def _tell_exit(self, entry: Running, code: int) -> None:
        self.client.call(
            ContainerExited(container=entry.container, generation=entry.generation, exit_code=code, exited_at=1e9)
        )

    def end_exec(self, exec_id: str, code: int) -> None:
        entry = self.execs.pop(exec_id)
        self.client.call(ExecExited(exec=exec_id, container=entry.container, exit_code=code, exited_at=1e9))


jobs: Handlers[World] = Handlers()


def answer(kind: type[Job[Any]]) -> Callable[[Callable[[World, Any], Any]], None]:
    def register(function: Callable[[World, Any], Any]) -> None:
        def handler(world: World, job: Any) -> Any:
            world.calls.append(job)
            scripted = world.script.get(job.__struct_config__.tag)
            return scripted(job) if scripted else function(world, job)

        jobs.handles(kind)(handler)

    return register


answer(GraphStatus)(lambda world, job: {"Driver": "overlay"})
answer(GraphCollect)(lambda world, job: 0)
answer(CreateLayer)(lambda world, job: world.layers.add(job.container) or {"MergedDir": f"/{job.container}"})
answer(RemoveLayer)(lambda world, job: world.layers.discard(job.container))
answer(CommitLayer)(lambda world, job: IMAGE.id)
answer(UnmountLayer)(lambda world, job: world.mounted.discard(job.container))
answer(RuntimeDelete)(lambda world, job: world.running.pop(job.container, None) and None)
answer(RuntimeList)(lambda world, job: list(world.running.values()))
answer(RuntimeExecList)(lambda world, job: list(world.execs.values()))
answer(ExportImages)(lambda world, job: Ticket(path="/nowhere", token="t"))
answer(RuntimeAttach)(lambda world, job: Ticket(path="/nowhere", token="t"))
answer(InitNetworkDriver)(lambda world, job: world.bridge)


answer(ListHeldVolumes)(lambda world, job: [HeldVolume(name=v, containers=[]) for v in sorted(world.mounted_volumes)])
answer(PopulateVolume)(lambda world, job: world.mounted_volumes.add(job.name))
answer(UnmakeVolume)(lambda world, job: world.volumes.discard(job.name))
answer(UnmountVolume)(lambda world, job: world.mounted_volumes.discard(job.name) if job.last else None)
answer(MeasureVolume)(lambda world, job: 100)


@answer(MakeVolume)
def make_volume(world: World, job: MakeVolume) -> str:
    world.volumes.add(job.name)
    return f"/volumes/{job.name}/_data"


@answer(MountVolume)
def mount_volume(world: World, job: MountVolume) -> dict[str, str]:
    world.mounted_volumes.add(job.name)
    return {subpath: f"/volumes/{job.name}/_data/{subpath}" for subpath in job.subpaths}


@answer(MountLayer)
def mount(world: World, job: MountLayer) -> str:
    world.mounted.add(job.container)
    return f"/rootfs/{job.container}"


@answer(AllocateInterface)
def allocate(world: World, job: AllocateInterface) -> Interface:
    """A network's addresses are those of 198.51.100.0/24, the default one's of 192.0.2.0/24."""
    held = world.interfaces.setdefault(job.container, {})
    if job.mode == "none":
        made = Interface(mode="none", netns="/ns")
    else:
        prefix = "198.51.100" if job.network else "192.0.2"
        made = Interface(
            mode=job.mode,
            network=job.network,
            netns="/ns",
            name=f"eth{len(held)}",
            address=job.address or f"{prefix}.{2 + len(held)}",
            prefix_len=24,
            gateway=f"{prefix}.1",
            resolver="127.0.0.11" if job.network else "",
            ports=[
                AllocatedPort(
                    container_port=int(key.partition("/")[0]),
                    protocol=key.partition("/")[2],
                    host_ip="127.0.0.1",
                    host_port=int(binding.host_port),
                )
                for key, bindings in job.ports.items()
                for binding in bindings
                if binding.host_port.isdigit()
            ],
        )
    return held.setdefault(job.network, made)


@answer(ReleaseInterface)
def release(world: World, job: ReleaseInterface) -> None:
    if job.network is None:
        world.interfaces.pop(job.container, None)
    else:
        world.interfaces.get(job.container, {}).pop(job.network, None)


@answer(ListInterfaces)
def interfaces(world: World, job: ListInterfaces) -> dict[str, list[Interface]]:
    found = {container: list(held.values()) for container, held in world.interfaces.items()}
    return {container: held for container, held in found.items() if job.container in ("", container)}


@answer(LinkContainers)
def link(world: World, job: LinkContainers) -> None:
    pass


answer(ListDenials)(lambda world, job: [])


@answer(MakeNetwork)
def make_network(world: World, job: MakeNetwork) -> BridgeNetwork:
    asked = job.network
    made = msgspec.structs.replace(
        asked,
        bridge=asked.bridge or f"br-{asked.id[:12]}",
        subnet=asked.subnet or "198.51.100.0/24",
        gateway=asked.gateway or "198.51.100.1",
    )
    return world.networks.setdefault(asked.id, made)


answer(UnmakeNetwork)(lambda world, job: world.networks.pop(job.network, None) and None)


@answer(RuntimeStart)
def start(world: World, job: RuntimeStart) -> RuntimeStarted:
    world.running[job.container] = Running(
        container=job.container, generation=job.generation, pid=4242, monitor_pid=4241
    )
    return RuntimeStarted(pid=4242, monitor_pid=4241)


answer(RuntimeStats)(lambda world, job: ContainerStats(read="2026-01-01T00:00:00.000000000Z"))
answer(RuntimeTop)(lambda world, job: Processes(titles=["PID"], processes=[["4242"]]))
answer(RuntimeResize)(lambda world, job: None)
answer(RuntimeUpdate)(lambda world, job: None)
answer(RuntimeSetHost)(lambda world, job: None)
answer(RuntimeSetAddresses)(lambda world, job: None)
answer(RuntimeSetResolver)(lambda world, job: None)
answer(RuntimePause)(lambda world, job: freeze(world, job.container, True))
answer(RuntimeUnpause)(lambda world, job: freeze(world, job.container, False))


def freeze(world: World, container: str, paused: bool) -> None:
    """What is thawed receives the signal that it was sent before."""
    world.running[container] = msgspec.structs.replace(world.running[container], paused=paused)
    if not paused and container in world.pending:
        kill(world, world.pending.pop(container))


@answer(RuntimeExec)
def start_exec(world: World, job: RuntimeExec) -> RuntimeExecStarted:
    world.execs[job.exec] = RunningExec(exec=job.exec, container=job.container, pid=77)
    return RuntimeExecStarted(pid=77)


@answer(RuntimeKill)
def deliver(world: World, job: RuntimeKill) -> None:
    kill(world, job)


def kill(world: World, job: RuntimeKill) -> None:
    if world.running[job.container].paused:
        world.pending[job.container] = job
    elif job.signal in (9, 15):
        world.die(job.container, 128 + job.signal)


class Stack:
    """Run the engine and the stand-ins; `restart_engine` is a new engine on the same root and the same world."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.world = World(config)
        self.identity = StackId(boot="b", arbiter="a")
        self.client = self.world.client
        self._stops: list[Callable[[], None]] = []
        self.start_engine()
        groups = {
            "graphdriver": ("graph_", "layer_", "volumedriver_"),
            "netdriver": ("init_", "link", "allocate_", "release_", "interfaces", "network"),
            "execdriver": ("runtime_",),
        }
        for service, prefixes in groups.items():
            self._stops.append(self._serve(service, prefixes))

    def _serve(self, service: str, prefixes: tuple[str, ...]) -> Callable[[], None]:
        table: Handlers[World] = Handlers()
        for name in jobs:
            if name.startswith(prefixes):
                table._add(name, jobs[name])
        worker = Worker(engine_endpoint(self.config.run), service, self.world, table, threads=8)
        return serve_in_thread(worker, threading.Event())

    def restart_execdriver(self) -> None:
        """A new one registers in place of the old."""
        self._stops.pop()()
        self._stops.append(self._serve("execdriver", ("runtime_",)))

    def start_engine(self) -> None:
        self._stop = threading.Event()
        wakers: list[Callable[[], None]] = []
        work = serve(self.config, self._stop, wakers.append, self.identity)
        self._thread = threading.Thread(target=asyncio.run, args=(work,))
        self._thread.start()
        self._wakers = wakers

    def stop_engine(self) -> None:
        self._stop.set()
        for wake in self._wakers:
            wake()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def restart_engine(self) -> None:
        self.stop_engine()
        self.start_engine()

    def close(self) -> None:
        for thread in self.world.dying:
            thread.join(10)  # what it tells must find an engine
        self.stop_engine()
        for stop in self._stops:
            stop()
        self.client.close()


def ask(stack: Stack, header: Header, job: Job[Any], until: Kind = Kind.RESULT) -> Frame:
    """Send one JOB on a connection of its own, and return the first frame of that kind that comes back."""
    socket = dealer(zmq.Context.instance(), engine_endpoint(stack.config.run))
    with socket:
        socket.send_multipart(Frame(Kind.JOB, header, encode_body(job)).parts())
        while socket.poll(10_000):
            frame = Frame.parse(socket.recv_multipart())
            if frame.kind is until:
                return frame
    raise AssertionError(f"no {until} for {header.name}")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    run = tmp_path / "run"
    run.mkdir()
    stack = Stack(Config(root=tmp_path / "root", run=run, shutdown_timeout=1.0))
    try:
        stack.client.call(SetImage(image=IMAGE, tags=["docker.io/library/busybox:latest"]))
        yield stack
    finally:
        stack.close()
