"""Checking: what is wrong with an instruction, whatever its variables stand for; before anything is done of a build."""

from __future__ import annotations

from contextlib import suppress

from services.builder import copystep
from services.builder.flags import Flag, take_flags
from services.builder.mounts import parse_mount
from services.builder.runstep import NETWORKS
from shared.dockerfile import instructions
from shared.dockerfile.instructions import Scope
from shared.dockerfile.parser import Instruction
from shared.dockerfile.words import json_list, pairs, split_words
from shared.protocol import ContainerConfig, InvalidArgument, NotImplementedByUs

__all__ = ["argument_pairs", "check"]

FLAGS = {**copystep.FLAGS, "from": {"platform"}, "run": {"mount", "network", "security"}}
OWN_FLAGS = ("healthcheck", "onbuild")  # that they read themselves
PLAIN = ("healthcheck", "onbuild", "shell")  # no variables are replaced in these


def check(step: Instruction, escape: str) -> None:
    """Errors: InvalidArgument, as Docker's parser of Dockerfiles has them."""
    name, text = step.name, step.text
    flags: list[Flag] = []
    if name in FLAGS:
        flags, text = take_flags(text, escape)
        for flag in flags:
            if flag.name not in FLAGS[name]:
                raise InvalidArgument(f"unknown flag: --{flag.name}")
    elif name not in OWN_FLAGS and text.startswith("--"):
        raise InvalidArgument(f"unknown flag: {text.split()[0]}")
    if not text:
        raise InvalidArgument(f"{name.upper()} requires at least one argument")
    if name in ("add", "copy"):
        _check_copy(name, text, escape)
    elif name == "run":
        _check_run(flags)
    elif name in ("env", "label"):
        pairs(name.upper(), text, escape)
    elif name == "arg":
        argument_pairs(text, escape)
    elif name == "volume":
        _check_volume(text, escape)
    elif name in PLAIN:
        instructions.apply(ContainerConfig(), name, text, Scope({}, escape))


def argument_pairs(text: str, escape: str) -> list[tuple[str, str | None]]:
    """Read the words of an ARG: ``name`` or ``name=default``, quotes stay. Errors: InvalidArgument."""
    found: list[tuple[str, str | None]] = []
    for word in split_words(text, escape):
        found += [(word, None)] if "=" not in word else [*pairs("ARG", word, escape)]
    return found


def _check_copy(name: str, text: str, escape: str) -> None:
    words = json_list(text)
    if len(split_words(text, escape) if words is None else words) < 2:
        why = "but only one was provided. Destination could not be determined"
        raise InvalidArgument(f"{name.upper()} requires at least two arguments, {why}")


def _check_run(flags: list[Flag]) -> None:
    for flag in flags:
        if "$" in flag.value:
            continue
        if flag.name == "mount":
            with suppress(NotImplementedByUs):
                parse_mount(flag.value, "/")
        elif flag.name == "network" and flag.value not in NETWORKS:
            raise InvalidArgument(f'unsupported network mode "{flag.value}"')


def _check_volume(text: str, escape: str) -> None:
    words = json_list(text)
    if words == []:
        raise InvalidArgument("VOLUME requires at least one argument")
    if not all(word.strip() for word in (split_words(text, escape) if words is None else words)):
        raise InvalidArgument("VOLUME specified can not be an empty string")
