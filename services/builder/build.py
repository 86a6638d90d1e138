"""Build: one build from its context to its tags, stage by stage, as Docker's classic builder does it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from services.builder import context
from services.builder.arguments import Arguments, StageArguments, platform_arguments
from services.builder.containers import Containers
from services.builder.images import Base, Images, check_platform
from services.builder.output import Output
from services.builder.stages import SCRATCH, Stage, read_stages, upto
from services.builder.steps import StageBuild
from shared.bus.context import check_cancelled, job_id
from shared.dockerfile.parser import parse
from shared.protocol import BuildImage, ContainerConfig, DockyardError, InvalidArgument, TagImage
from shared.protocol.reference import familiar, normalize

if TYPE_CHECKING:
    from services.builder.handlers import Builder

__all__ = ["Build"]

SHORT = 12
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Build:
    """``built``: the stages that are done. ``arguments``, ``images``: see there."""

    def __init__(self, builder: Builder, job: BuildImage, output: Output) -> None:
        self.builder, self.job, self.output, self.bus = builder, job, output, builder.bus
        self.arguments = Arguments(job.buildargs, platform_arguments(job.platform))
        self.containers = Containers(builder.bus, job_id())
        self.built: list[tuple[str, Base]] = []  # name, what has come of it
        self.escape = "\\"
        self._steps = self._step = 0

    def run(self) -> str:
        """Return the image's id. Errors: as `BuildImage`."""
        tags = [_tag(text) for text in self.job.tags]
        check_platform(self.job.platform)
        with ExitStack() as stack:
            stack.callback(self.containers.end)
            builder = self.builder
            self.context = stack.enter_context(
                context.opened(self.job, builder.tickets, builder.temporary, self.output.say)
            )
            self.images = Images(self.bus, self.job, self.output, self.containers, stack)
            dockerfile = parse(self.context.dockerfile)
            self.escape = dockerfile.escape
            stages = upto(read_stages(dockerfile, self.arguments), self.job.target)
            image = self._build(stages)
        for tag in tags:
            self.bus.call(TagImage(image=image, repo=tag))
        self._tell_end(image, tags)
        return image

    def _build(self, stages: list[Stage]) -> str:
        self._steps = sum(1 + len(stage.instructions) for stage in stages) + bool(self.job.labels)
        for stage in stages:
            made = self._stage(stage, last=stage is stages[-1])
            self.built.append((stage.name, made))
        if not made.image:
            raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
        return made.image

    def _stage(self, stage: Stage, *, last: bool) -> Base:
        self.announce(stage.origin.original)
        base = self._base(stage)
        config = msgspec.structs.replace(base.config, on_build=None)
        if not any(entry.startswith("PATH=") for entry in config.env or []):
            config.env = [DEFAULT_PATH, *(config.env or [])]
        build = StageBuild(self, Base(base.image, config, base.platform), StageArguments(self.arguments))
        build.tell_image()
        build.run_triggers(base.config.on_build or [])
        for step in stage.instructions:
            check_cancelled()
            self.announce(step.original)
            build.run(step)
        if last and self.job.labels:
            self.announce(f"LABEL {' '.join(f'{key}={value}' for key, value in sorted(self.job.labels.items()))}")
            build.label(self.job.labels)
        return Base(build.image, build.config, base.platform)

    def announce(self, what: str) -> None:
        self._step += 1
        self.output.say(f"Step {self._step}/{self._steps} : {what}\n")

    def _base(self, stage: Stage) -> Base:
        for name, made in reversed(self.built):
            if name and name == stage.base.lower():
                return made
        if stage.base == SCRATCH:
            platform = stage.platform or self.job.platform
            check_platform(platform)
            return Base("", ContainerConfig(), platform)
        return self.images.base(stage.base, stage.platform)

    def other(self, reference: str) -> str:
        """Return the id of what a ``from=`` names: a stage by its name or number, or an image."""
        for number, (name, made) in enumerate(self.built):
            if reference.lower() == name or reference == str(number):
                return made.image
        if reference == str(len(self.built)):
            raise InvalidArgument(f"invalid from flag value {reference}: refers to current build stage")
        if reference.isdigit():
            raise InvalidArgument(f"invalid from flag value {reference}: invalid stage index")
        try:
            return self.images.base(reference, "").image
        except DockyardError as error:
            raise type(error)(f"invalid from flag value {reference}: {error.message}") from error

    def _tell_end(self, image: str, tags: list[str]) -> None:
        if unconsumed := self.arguments.unconsumed():
            self.output.say_error(f"[Warning] One or more build-args [{' '.join(unconsumed)}] were not consumed\n")
        self.output.result(image)
        if not self.job.quiet:
            self.output.say(f"Successfully built {image.removeprefix('sha256:')[:SHORT]}\n")
            for tag in tags:
                self.output.say(f"Successfully tagged {familiar(tag)}\n")


def _tag(text: str) -> str:
    reference = normalize(text)
    if "@" in reference:
        raise InvalidArgument("build tag cannot contain a digest")
    return reference
