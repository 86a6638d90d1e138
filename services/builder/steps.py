"""Steps: what each instruction of a stage does; what it has made before is not made again."""

from __future__ import annotations

import json
import posixpath
import tarfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from services.builder import copystep, runstep
from services.builder.arguments import StageArguments
from services.builder.checking import argument_pairs, check
from services.builder.images import Base
from services.builder.sources import Entry, follow
from services.builder.stages import KNOWN
from services.builder.tarstream import Item
from services.builder.transfer import send
from shared.bus.context import check_cancelled
from shared.dockerfile import instructions
from shared.dockerfile.instructions import Scope, environment
from shared.dockerfile.parser import Instruction, parse
from shared.dockerfile.words import pairs
from shared.protocol import CommitStep, FindCached, InvalidArgument, Unavailable

if TYPE_CHECKING:
    from services.builder.build import Build

__all__ = ["StageBuild"]

SHORT = 12
NOP = "/bin/sh -c #(nop) "
ATTEMPTS = 3  # at a step whose driver died in the middle
PAUSE = 0.5  # seconds


class StageBuild:
    """``image``: an id, empty as long as the stage is nothing; ``config`` what the image says, or will."""

    def __init__(self, build: Build, base: Base, arguments: StageArguments) -> None:
        self.build, self.arguments = build, arguments
        self.image, self.config, self._platform = base.image, base.config, base.platform
        self._author = ""
        self._has_command = False  # a CMD of this stage
        self._missed = False  # a step was not in the cache: those behind it are not either

    @property
    def scope(self) -> Scope:
        """ENV is stronger than ARG."""
        return Scope({**self.arguments.declared, **environment(self.config)}, self.build.escape)

    def tell_image(self) -> None:
        self.build.output.say(f" ---> {self.image.removeprefix('sha256:')[:SHORT]}\n")

    def run_triggers(self, triggers: list[str]) -> None:
        """Do what the base's ONBUILD instructions say."""
        if triggers:
            plural = "" if len(triggers) == 1 else "s"
            self.build.output.say(f"# Executing {len(triggers)} build trigger{plural}\n")
        for trigger in triggers:
            for step in parse(trigger).instructions:
                if step.name in ("onbuild", "from", "maintainer") or step.name not in KNOWN:
                    raise InvalidArgument(f"{step.name.upper()} isn't allowed as an ONBUILD trigger")
                check(step, self.build.escape)
                self.run(step)

    def run(self, step: Instruction) -> None:
        """Do one instruction. Errors: InvalidArgument, StepFailed, those of the jobs that are called."""
        before = self.config
        self.config = msgspec.structs.replace(before)
        try:
            STEPS.get(step.name, StageBuild._configure)(self, step)
        except BaseException:
            self.config = before
            raise
        self.tell_image()

    # -- instructions

    def _configure(self, step: Instruction) -> None:
        text, scope = step.text, self.scope
        if step.name == "onbuild":
            text += "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in step.heredocs)
        instructions.apply(self.config, step.name, text, scope)
        if step.name == "cmd":
            self._has_command = True
        elif step.name == "entrypoint" and not self._has_command:
            self.config.cmd = None  # it belonged to another entrypoint
        self._record(NOP + _told(step.name, text, self))

    def _arg(self, step: Instruction) -> None:
        for name, default in argument_pairs(step.text, self.build.escape):
            value = None if default is None else self.scope.expand(default)
            self.arguments.declare(self.scope.expand(name), value)

    def _maintainer(self, step: Instruction) -> None:
        self._author = step.text
        self._record(f"{NOP}MAINTAINER {step.text}")

    def _workdir(self, step: Instruction) -> None:
        """The directory is there from now on, for all users."""
        instructions.apply(self.config, "workdir", step.text, self.scope)
        created_by = f"{NOP}WORKDIR {self.config.working_dir}"
        if not self.cached(created_by):
            self.retried(lambda: self._make_workdir(created_by))

    def _make_workdir(self, created_by: str) -> None:
        with self.build.containers.tree(self.image) as tree:
            path, missing = follow(tree.source, self.config.working_dir.strip("/")), []
            while path and tree.source.entry(path) is None:
                made = Entry(tarfile.DIRTYPE, 0o755, mtime_ns=time.time_ns())
                missing.append(Item(path, made))
                path = posixpath.dirname(path)
            if (entry := tree.source.entry(path)) is None or not entry.is_directory:
                raise InvalidArgument(f"Cannot mkdir: {self.config.working_dir} is not a directory")
            if missing:
                send(self.build.bus, tree.container, "/", reversed(missing))
            self.commit(created_by, tree.container if missing else "")

    def label(self, labels: dict[str, str]) -> None:
        """Add the labels that the user gave for the whole build."""
        self.config = msgspec.structs.replace(self.config, labels={**(self.config.labels or {}), **labels})
        told = " ".join(f"{key}={value}" for key, value in sorted(labels.items()))
        self._record(f"{NOP}LABEL {told}")
        self.tell_image()

    # -- images

    def _record(self, created_by: str) -> None:
        if not self.cached(created_by):
            self.commit(created_by)

    def cached(self, created_by: str) -> bool:
        """Go on with the image that this step has made before, if there is one."""
        job = self.build.job
        if self._missed or job.nocache:
            return False
        found = self.build.bus.call(
            FindCached(
                parent=self.image,
                created_by=created_by,
                config=self.config,
                cachefrom=job.cachefrom,
                platform=self._platform,
            ),
            timeout=None,
        )
        if not found:
            self._missed = True
            return False
        self.image = found
        self.build.output.say(" ---> Using cache\n")
        return True

    def commit(self, created_by: str, container: str = "", mounted: list[str] | None = None) -> None:
        """Record the image of a step: what changed in a container, or the configuration alone."""
        job = CommitStep(
            parent=self.image,
            config=self.config,
            created_by=created_by,
            author=self._author,
            container=container,
            mounted=mounted or [],
            platform=self._platform,
        )
        self.image = self.build.bus.call(job, timeout=None)

    def retried(self, work: Callable[[], None]) -> None:
        """Do a step again that was lost with a driver. Errors: Unavailable (again and again), those of ``work``."""
        for attempt in range(ATTEMPTS):
            try:
                work()
                return
            except Unavailable:
                if attempt == ATTEMPTS - 1:
                    raise
            check_cancelled()
            time.sleep(PAUSE)


def _told(name: str, text: str, stage: StageBuild) -> str:
    """Return an instruction as an image's history tells of it, with its variables replaced."""
    config, scope = stage.config, stage.scope
    if name in ("env", "label"):
        told = " ".join(f"{scope.expand(key)}={scope.expand(value)}" for key, value in pairs(name, text, scope.escape))
    elif name in ("cmd", "entrypoint", "shell"):
        words = getattr(config, name) or []
        told = f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"
    else:
        told = {"user": config.user, "stopsignal": config.stop_signal}.get(name, text)
    return f"{name.upper()} {told}"


STEPS: dict[str, Callable[[StageBuild, Instruction], None]] = {
    "add": copystep.copy,
    "arg": StageBuild._arg,
    "copy": copystep.copy,
    "maintainer": StageBuild._maintainer,
    "run": runstep.run,
    "workdir": StageBuild._workdir,
}
