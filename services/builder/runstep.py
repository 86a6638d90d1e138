"""RUN: a command in a container of its own, whose changes become a layer."""

from __future__ import annotations

import codecs
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from services.builder import mounts
from services.builder.flags import Flag, take_flags
from services.builder.mounts import Mounted, MountSpec
from services.builder.output import Output, StepFailed
from services.builder.trees import Tree
from shared.bus.context import current
from shared.dockerfile.instructions import DEFAULT_SHELL, environment
from shared.dockerfile.parser import Instruction
from shared.dockerfile.words import json_list
from shared.protocol import (
    ContainerConfig,
    ContainerLogs,
    HealthConfig,
    HostConfig,
    InvalidArgument,
    LogConfig,
    MountLayer,
    NotImplementedByUs,
    StartContainer,
    WaitContainer,
)
from shared.runtime.logs.selection import Selection
from shared.runtime.logs.stream import stream_log

if TYPE_CHECKING:
    from services.builder.steps import StageBuild

__all__ = ["run"]

SHORT = 12
NETWORKS = {"default": "", "none": "none", "host": "host"}
HEADER = struct.Struct(">BxxxL")  # of a frame of output: stream, length
STDERR = 2
SCRIPTS = "/dev/pipes"  # where a here-document that is a program by itself is mounted


class _Command:
    """``words``: what is run; ``told``: how the history names it; ``scripts``: (path, content) of programs."""

    def __init__(self, stage: StageBuild, step: Instruction, rest: str) -> None:
        self.scripts: list[tuple[str, str]] = []
        shell = stage.config.shell or DEFAULT_SHELL
        words = json_list(rest)
        if words is not None:
            self.words = words
            return
        if step.heredocs:
            rest = self._with_heredocs(step, rest)
        self.words = [rest] if self.scripts else [*shell, rest]

    def _with_heredocs(self, step: Instruction, rest: str) -> str:
        """A here-document alone is the script; others belong to the shell, which reads them by itself."""
        first = step.heredocs[0]
        if len(step.heredocs) == 1 and rest.startswith("<<") and len(rest.split()) == 1:
            if first.content.startswith("#!"):
                path = f"{SCRIPTS}/{first.name}"
                self.scripts.append((path, first.content))
                return path
            return first.content
        return rest + "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in step.heredocs)

    @property
    def told(self) -> str:
        return " ".join([*self.words, *(content for _, content in self.scripts)])


def run(stage: StageBuild, step: Instruction) -> None:
    """Do a RUN. Errors: InvalidArgument, StepFailed, those of the jobs that are called."""
    if not stage.image:
        raise InvalidArgument("RUN needs an image: a stage that begins with scratch has nothing to run in")
    flags, rest = take_flags(step.text, stage.build.escape)
    network, specs = _flags(stage, flags)
    command = _Command(stage, step, rest)
    if not command.words or not rest:
        raise InvalidArgument("RUN requires at least one argument")
    variables, told = stage.arguments.of_run(environment(stage.config))
    prefix = [f"|{len(told)}", *(f"{key}={value}" for key, value in sorted(told.items()))] if told else []
    extra = [mounts.told(stage, spec) for spec in specs]
    extra += [f"--network={network}"] if network else []
    created_by = " ".join([*prefix, *extra, command.told])
    if stage.cached(created_by):
        return
    with ExitStack() as stack:
        mounted = mounts.place_mounts(stage, specs, stack)
        for path, content in command.scripts:
            spec = MountSpec(kind="bind", target=path, read_only=True, mode=0o755)
            place = mounts.file_for_step(stage.build.builder.temporary, content.encode(), spec, stack)
            mounts.add_bind(mounted, str(place), spec)
        _Step(stage, command, mounted, network).run({**variables, **mounted.env}, created_by)


def _flags(stage: StageBuild, flags: list[Flag]) -> tuple[str, list[MountSpec]]:
    network, specs = "", []
    for flag in flags:
        value = stage.scope.expand(flag.value)
        if flag.name == "mount":
            specs.append(mounts.parse_mount(value, stage.config.working_dir))
        elif flag.name == "network":
            if value not in NETWORKS:
                raise InvalidArgument(f'unsupported network mode "{value}"')
            network = NETWORKS[value]
        elif value != "sandbox":  # --security
            raise NotImplementedByUs(f"RUN --security={value} is not allowed")
    return network, specs


class _Step:
    def __init__(self, stage: StageBuild, command: _Command, mounted: Mounted, network: str) -> None:
        self._stage, self._build, self._bus = stage, stage.build, stage.build.bus
        self._command, self._mounted, self._network = command, mounted, network

    def run(self, variables: dict[str, str], created_by: str) -> None:
        containers, job = self._build.containers, self._build.job
        container = containers.create(self._stage.image, self._config(variables), self._host_config())
        done = False
        try:
            self._build.output.say(f" ---> Running in {container[:SHORT]}\n")
            stubs = self._stubs(container)
            code = self._run(container)
            if code:
                command = " ".join(self._command.words)
                raise StepFailed(f"The command '{command}' returned a non-zero code: {code}", code)
            self._stage.commit(created_by, container, stubs)
            done = True
        except StepFailed:
            if not job.force_remove:
                containers.keep(container)
            raise
        finally:
            if done and job.remove:
                containers.remove(container)
                self._build.output.say(f" ---> Removed intermediate container {container[:SHORT]}\n")
            elif done:
                containers.keep(container)

    def _stubs(self, container: str) -> list[str]:
        if not self._mounted.targets:
            return []
        root = os.open(Path(self._bus.call(MountLayer(container=container))), os.O_PATH | os.O_DIRECTORY)
        try:
            return mounts.stubs(Tree(root), self._mounted.targets)
        finally:
            os.close(root)

    def _run(self, container: str) -> int:
        """Run it to its end and pass on what it says; returns its status."""
        self._bus.call(StartContainer(container=container), timeout=None)
        context = current.get()
        stream = self._bus.call(ContainerLogs(container=container, stdout=True, stderr=True))
        gone = context.cancelled if context is not None else None
        output = _Text(self._build.output)
        for frames in stream_log(self._bus, stream, Selection(), follow=True, gone=gone):
            output.feed(frames)
        return self._bus.call(WaitContainer(container=container, condition="not-running"), timeout=None).status_code

    def _config(self, variables: dict[str, str]) -> ContainerConfig:
        """Return what is run: the image's entry point and health check are not for a build."""
        return ContainerConfig(
            cmd=self._command.words,
            entrypoint=[""],
            env=[f"{key}={value}" for key, value in variables.items()],
            healthcheck=HealthConfig(test=["NONE"]),
            working_dir=self._stage.config.working_dir,
            user=self._stage.config.user,
        )

    def _host_config(self) -> HostConfig:
        job = self._build.job
        return HostConfig(
            network_mode=self._network or job.networkmode,
            extra_hosts=job.extrahosts or None,
            memory=job.memory,
            memory_swap=job.memswap,
            cpu_shares=job.cpushares,
            cpu_period=job.cpuperiod,
            cpu_quota=job.cpuquota,
            cpuset_cpus=job.cpusetcpus,
            cpuset_mems=job.cpusetmems,
            cgroup_parent=job.cgroupparent,
            shm_size=job.shmsize,
            ulimits=job.ulimits or None,
            security_opt=job.securityopt or None,
            log_config=LogConfig(type="json-file"),
            mounts=self._mounted.mounts or None,
            tmpfs=self._mounted.tmpfs or None,
        )


class _Text:
    """Output in frames, passed on as text; what is no UTF-8 is shown as the character for that."""

    def __init__(self, output: Output) -> None:
        self._output = output
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in (1, STDERR)}

    def feed(self, frames: bytes) -> None:
        for stream, data in _unframed(frames):
            text = self._decoders[stream].decode(data)
            if text and stream == STDERR:
                self._output.say_error(text)
            elif text:
                self._output.say(text)


def _unframed(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Split whole frames; those of one stream that follow each other are one piece."""
    at, stream, pieces = 0, 0, list[bytes]()
    while at < len(frames):
        this, size = HEADER.unpack_from(frames, at)
        if pieces and (this != stream or this == STDERR):
            yield stream, b"".join(pieces)
            pieces = []
        stream = this
        pieces.append(frames[at + HEADER.size : at + HEADER.size + size])
        at += HEADER.size + size
    if pieces:
        yield stream, b"".join(pieces)
