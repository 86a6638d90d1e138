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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from shared.protocol import InvalidArgument

__all__ = ["Glob", "Ignore", "compile_glob", "read_patterns"]

MAX_BACKTRACKING = 2  # parts of a regular expression that may be of any length over slashes


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
    expression: Glob
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


class Glob(Protocol):
    def fullmatch(self, path: str, /) -> object:
        """Return something true if the whole path matches."""
        ...


def compile_glob(pattern: str) -> Glob:
    """Translate a pattern. Errors: InvalidArgument.

    However it is made, it takes no more time than its length times that of a path, or that of a path squared.
    """
    tokens = list(_tokens(pattern))
    expression = _expression(tokens)
    return re.compile(expression, re.DOTALL) if expression is not None else _States(tokens)


STAR, ANYTHING, DIRECTORIES = "*", "**", "**/"  # tokens; all others are regular expressions of one character


def _tokens(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            stars = len(pattern) - at - len(pattern[at:].lstrip("*")) + 1
            at += stars - 1
            if stars == 1:
                yield STAR
            elif pattern.startswith("/", at):
                at += 1
                yield DIRECTORIES
            else:
                yield ANYTHING
        elif character == "?":
            yield "[^/]"
        elif character == "[":
            token, at = _character_class(pattern, at)
            yield token
        elif character == "\\":
            if at == len(pattern):
                raise InvalidArgument(f"syntax error in pattern: {pattern!r}")
            yield re.escape(pattern[at])
            at += 1
        else:
            yield re.escape(character)


def _expression(tokens: list[str]) -> str | None:
    """Return a regular expression that is quick on any path; None if there is none.

    Between two slashes the first place where a piece behind a star fits is as good as any, so that none is tried twice
    (atomic groups); of ``**``, behind which that is not so, there may be but two.
    """
    if sum(token in (ANYTHING, DIRECTORIES) for token in tokens) > MAX_BACKTRACKING:
        return None
    result, piece, starred = "", "", False
    for position, token in enumerate([*tokens, "/"]):
        ends = position == len(tokens)
        if token in (ANYTHING, DIRECTORIES):
            if starred or (piece and token == DIRECTORIES):
                return None
            result, piece = result + piece + ("(?:.*/)?" if token == DIRECTORIES else ".*"), ""
            if token == ANYTHING and position + 1 < len(tokens):
                return None
        elif token == STAR:
            result += f"(?>[^/]*?{piece})" if starred and piece else "" if starred else piece
            piece, starred = "", True
        elif token == "/":
            result += (f"[^/]*{piece}" if starred else piece) + ("" if ends else "/")
            piece, starred = "", False
        else:
            piece += token
    return result


class _States:
    """Any pattern, as the set of the places in it that a path may have come to."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._single = [re.compile(t, re.DOTALL) if t not in (STAR, ANYTHING, DIRECTORIES) else None for t in tokens]

    def fullmatch(self, path: str, /) -> bool:
        here = self._closed({0})
        for character in path:
            following = set()
            for state in here:
                token = self._tokens[state] if 0 <= state < len(self._tokens) else ""
                single = self._single[state] if token else None
                if single is not None:
                    if single.fullmatch(character):
                        following.add(state + 1)
                elif token == ANYTHING or (token == STAR and character != "/"):
                    following.add(state)
                elif token == DIRECTORIES:
                    following |= {-state - 1} if character != "/" else {-state - 1, state + 1}
                elif state < 0:  # among the directories that the token -state - 1 stands for
                    following |= {state} if character != "/" else {state, -state}
            here = self._closed(following)
        return len(self._tokens) in here

    def _closed(self, states: set[int]) -> set[int]:
        """Add the places that are reached by nothing: behind stars."""
        pending = list(states)
        while pending:
            state = pending.pop()
            if 0 <= state < len(self._tokens) and self._single[state] is None and state + 1 not in states:
                states.add(state + 1)
                pending.append(state + 1)
        return states


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
