"""Ignore: the patterns of .dockerignore (Docker's documentation, §.dockerignore files; moby/patternmatcher).

| pattern         | matches                                                                      |
|-----------------|------------------------------------------------------------------------------|
| ``*`` ``?``     | any characters, one character, but no slash                                  |
| ``**``          | any number of directories, also none                                         |
| ``[a-z]`` ``[^a]`` | one character of a class                                                  |
| ``\\*``         | the character itself                                                         |
| ``!pattern``    | takes out again what an earlier pattern left out                             |

A pattern is relative to the root of the context, with or without a slash before it. What is below a directory that
matches is left out with it. The last pattern that matches a path, or a directory above it, decides.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from shared.protocol import InvalidArgument

__all__ = ["Ignore", "compile_glob", "read_patterns"]


def read_patterns(text: str) -> list[str]:
    """Read the lines of a .dockerignore: white space around them, comments and empty lines mean nothing."""
    patterns = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines()):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        negated = pattern.startswith("!")
        pattern = pattern[1:].strip() if negated else pattern
        if pattern:
            pattern = posixpath.normpath(pattern)
            pattern = pattern.lstrip("/") if len(pattern) > 1 else pattern
        elif negated:
            raise InvalidArgument(f'illegal exclusion pattern: "!" in line {number + 1} of .dockerignore')
        patterns.append(f"!{pattern}" if negated else pattern)
    return patterns


@dataclass(frozen=True)
class _Pattern:
    expression: re.Pattern[str]
    negated: bool


class Ignore:
    """Errors: InvalidArgument (a pattern cannot be read)."""

    def __init__(self, patterns: list[str]) -> None:
        self._patterns = [
            _Pattern(compile_glob(pattern.removeprefix("!")), pattern.startswith("!"))
            for pattern in patterns
            if pattern not in (".", "!.")  # the root itself is never left out
        ]
        self._known: dict[str, tuple[bool, ...]] = {"": tuple(False for _ in self._patterns)}

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def excludes(self, path: str) -> bool:
        """Say whether a path, relative to the root and clean, is left out."""
        excluded = False
        for pattern, matched in zip(self._patterns, self._matches(path), strict=True):
            if matched:
                excluded = not pattern.negated
        return excluded

    def _matches(self, path: str) -> tuple[bool, ...]:
        """Say which patterns match a path or a directory above it."""
        missing = []
        while path not in self._known:
            missing.append(path)
            path = posixpath.dirname(path)
        found = self._known[path]
        for below in reversed(missing):
            found = tuple(
                above or bool(pattern.expression.fullmatch(below))
                for above, pattern in zip(found, self._patterns, strict=True)
            )
            self._known[below] = found
        return found


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Translate a pattern. Errors: InvalidArgument."""
    result, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        if pattern.startswith("**", at):
            at += 2
            if pattern.startswith("/", at):
                at += 1
                result += "(?:.*/)?"
            else:
                result += ".*" if at == len(pattern) else "(?:.*/)?[^/]*"
            while pattern.startswith("*", at):
                at += 1
            continue
        at += 1
        if character == "*":
            result += "[^/]*"
        elif character == "?":
            result += "[^/]"
        elif character == "[":
            piece, at = _character_class(pattern, at)
            result += piece
        elif character == "\\":
            if at == len(pattern):
                raise InvalidArgument(f"syntax error in pattern: {pattern!r}")
            result += re.escape(pattern[at])
            at += 1
        else:
            result += re.escape(character)
    return re.compile(result, re.DOTALL)


def _character_class(pattern: str, at: int) -> tuple[str, int]:
    """Translate ``[…]``, whose bracket is before ``at``; returns it with the place behind it."""
    bad = InvalidArgument(f"syntax error in pattern: {pattern!r}")
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not (pattern.startswith("]", at) and ranges):
        low, at = _one(pattern, at, bad)
        high = low
        if pattern.startswith("-", at):
            high, at = _one(pattern, at + 1, bad)
        if high >= low:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            raise bad
    at += 1
    return (f"[^/{''.join(ranges)}]" if negated else f"(?!/)[{''.join(ranges)}]"), at


def _one(pattern: str, at: int, bad: InvalidArgument) -> tuple[str, int]:
    if at >= len(pattern) or pattern[at] in "-]":
        raise bad
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise bad
    return pattern[at], at + 1
