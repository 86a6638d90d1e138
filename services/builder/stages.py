"""Stages: what a Dockerfile's FROM lines divide it into (Dockerfile reference, §FROM)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from services.builder.arguments import Arguments
from services.builder.checking import argument_pairs, check
from services.builder.flags import take_flags
from shared.dockerfile.expansion import expand
from shared.dockerfile.parser import Dockerfile, Instruction
from shared.dockerfile.words import split_words
from shared.protocol import InvalidArgument

__all__ = ["KNOWN", "SCRATCH", "Stage", "read_stages", "upto"]

SCRATCH = "scratch"
NAME = re.compile(r"[a-z][a-z0-9_.-]*")
KNOWN = frozenset(
    "add arg cmd copy entrypoint env expose from healthcheck label maintainer onbuild run shell stopsignal user volume "
    "workdir".split()
)


@dataclass
class Stage:
    """``base``: an image, a stage before this one, or `SCRATCH`; ``name`` in lower case, empty if it has none."""

    base: str
    name: str
    platform: str
    origin: Instruction
    instructions: list[Instruction] = field(default_factory=list)


def read_stages(dockerfile: Dockerfile, arguments: Arguments) -> list[Stage]:
    """Divide a Dockerfile; ARGs before the first FROM go to ``arguments``. Errors: InvalidArgument."""
    if not dockerfile.instructions:
        raise InvalidArgument("dockerfile parse error: file with no instructions")
    stages: list[Stage] = []
    for step in dockerfile.instructions:
        where = f"dockerfile parse error on line {step.line}"
        if step.name not in KNOWN:
            raise InvalidArgument(f"{where}: unknown instruction: {step.name.upper()}")
        try:
            check(step, dockerfile.escape)
            if step.name == "from":
                stages.append(_stage(step, arguments, dockerfile.escape))
            elif stages:
                stages[-1].instructions.append(step)
            elif step.name == "arg":
                _global_argument(step, arguments, dockerfile.escape)
            else:
                raise InvalidArgument("no build stage in current context")
        except InvalidArgument as error:
            raise InvalidArgument(f"{where}: {error.message}") from error
    if not stages:
        raise InvalidArgument("no build stage in current context")
    return stages


def _stage(step: Instruction, arguments: Arguments, escape: str) -> Stage:
    flags, rest = take_flags(step.text, escape)
    words = split_words(rest, escape)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
        raise InvalidArgument("FROM requires either one or three arguments")
    name = words[2].lower() if len(words) == 3 else ""
    if name and not NAME.fullmatch(name):
        why = "name can't start with a number or contain symbols"
        raise InvalidArgument(f'invalid name for build stage: "{words[2]}", {why}')
    base = expand(words[0], arguments.for_from, escape)
    if not base:
        raise InvalidArgument(f"base name ({words[0]}) should not be blank")
    platform = expand(flags[-1].value, arguments.for_from, escape) if flags else ""
    return Stage(base, name, platform, step)


def _global_argument(step: Instruction, arguments: Arguments, escape: str) -> None:
    for name, default in argument_pairs(step.text, escape):
        value = None if default is None else expand(default, arguments.for_from, escape)
        arguments.declare_global(expand(name, arguments.for_from, escape), value)


def upto(stages: list[Stage], target: str) -> list[Stage]:
    """Return the stages up to the one that is wanted: by its name, or its number. Errors: InvalidArgument."""
    if not target:
        return stages
    names = [stage.name for stage in stages]
    if target.lower() in names:
        return stages[: len(names) - names[::-1].index(target.lower())]
    if target.isascii() and target.isdigit() and int(target) < len(stages):
        return stages[: int(target) + 1]
    raise InvalidArgument(f"failed to reach build target {target} in Dockerfile")
