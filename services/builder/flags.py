"""Flags: ``--name=value`` before the arguments of an instruction (Dockerfile reference)."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass

from shared.dockerfile.words import WORDS
from shared.protocol import InvalidArgument

__all__ = ["Flag", "options", "take_flags", "truth"]

FLAG = re.compile(r"--([a-z][a-z0-9-]*)(?:(=)(.*))?", re.DOTALL)
TRUE, FALSE = ("", "true", "1", "t"), ("false", "0", "f")


@dataclass(frozen=True)
class Flag:
    """``value`` is empty for one that has none; variables in it are not replaced yet."""

    name: str
    value: str = ""


def take_flags(text: str, escape: str = "\\") -> tuple[list[Flag], str]:
    """Return the flags at the beginning of an instruction's text, and the rest. Errors: InvalidArgument."""
    flags: list[Flag] = []
    rest = text.lstrip()
    while rest.startswith("--"):
        match = WORDS[escape].match(rest)
        word = match[0] if match else rest
        rest = rest[len(word) :].lstrip()
        if word == "--":
            break
        found = FLAG.fullmatch(word)
        if found is None:
            raise InvalidArgument(f"unknown flag: {word}")
        flags.append(Flag(found[1], found[3] or ""))
    return flags, rest


def options(value: str) -> list[tuple[str, str | None]]:
    """Read ``key=value,flag``, a field in double quotes may have commas in it. Errors: InvalidArgument."""
    try:
        (fields,) = csv.reader([value], strict=True)
    except (csv.Error, ValueError) as error:
        raise InvalidArgument(f"failed to parse csv: {error}") from None
    found: list[tuple[str, str | None]] = []
    for field in fields:
        key, sign, text = field.partition("=")
        found.append((key.strip().lower(), text if sign else None))
    return found


def truth(name: str, value: str | None) -> bool:
    """Errors: InvalidArgument."""
    text = (value or "").lower()
    if text not in TRUE + FALSE:
        raise InvalidArgument(f"invalid value for {name}: {value}")
    return text in TRUE
