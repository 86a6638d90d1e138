"""Expansion: variables, quotes and escapes in a word (Dockerfile reference, §environment replacement).

| form                               | stands for                                                     |
|------------------------------------|----------------------------------------------------------------|
| ``$X`` ``${X}``                    | the value, empty if there is none                              |
| ``${X:-W}`` ``${X-W}``             | W if X is empty or not set (without the colon: not set)        |
| ``${X:+W}`` ``${X+W}``             | W if X is set and not empty (set)                              |
| ``${X:?W}`` ``${X?W}``             | an error with the text W where the first would be W            |
| ``${X#P}`` ``${X##P}``             | without the shortest, longest beginning that the pattern P is  |
| ``${X%P}`` ``${X%%P}``             | without the shortest, longest end                              |
| ``${X/P/W}`` ``${X//P/W}``         | W for the first, for every place where P is                    |

Words may have variables in them. Patterns know ``*`` and ``?``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared.protocol import InvalidArgument

__all__ = ["expand"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?\-$!]", re.ASCII)
MODIFIER = re.compile(r":?[-+?]|##?|%%?|//?")
MAX_DEPTH = 32
MAX_LENGTH = 1 << 20  # characters of a result; words that double each other grow beyond any bound


def expand(text: str, variables: Mapping[str, str], escape: str = "\\", *, raw: bool = False) -> str:
    """Replace variables, and take quotes and escapes away; ``raw``: leave both as they are (a heredoc's content).

    Errors: InvalidArgument (a quote or a brace is not closed, a modifier that there is not, a ``?`` that fails).
    """
    return _Expansion(text, variables, escape, raw).run()


class _Expansion:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, raw: bool, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise InvalidArgument("variables are nested too deeply")
        self._text, self._variables, self._escape, self._raw, self._depth = text, variables, escape, raw, depth
        self._at = 0

    def run(self) -> str:
        pieces: list[str] = []
        length = 0
        while self._at < len(self._text):
            piece = self._next()
            length += len(piece)
            if length > MAX_LENGTH:
                raise InvalidArgument(f"a word is longer than {MAX_LENGTH} characters")
            pieces.append(piece)
        return "".join(pieces)

    def _next(self) -> str:
        character = self._text[self._at]
        if character == "$":
            return self._dollar()
        self._at += 1
        if character == self._escape:
            return self._escaped()
        if not self._raw and character == "'":
            return self._single()
        if not self._raw and character == '"':
            return self._double()
        return character

    def _escaped(self) -> str:
        following = self._text[self._at : self._at + 1]
        if self._raw and following != "$":
            return self._escape
        self._at += 1
        return following

    def _single(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise InvalidArgument("unexpected end of statement while looking for matching single-quote")
        quoted, self._at = self._text[self._at : end], end + 1
        return quoted

    def _double(self) -> str:
        result = ""
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == "$":
                result += self._dollar()
                continue
            self._at += 1
            if character == '"':
                return result
            following = self._text[self._at : self._at + 1]
            if character == self._escape and following and following in f'"${self._escape}':
                character = following
                self._at += 1
            result += character
        raise InvalidArgument("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            return self._braced()
        match = NAME.match(self._text, self._at)
        if match is None:
            return "$"
        self._at = match.end()
        return self._variables.get(match[0], "")

    def _braced(self) -> str:
        name = NAME.match(self._text, self._at)
        if name is None:
            raise InvalidArgument("syntax error: bad substitution")
        self._at = name.end()
        if self._text[self._at : self._at + 1] == "}":
            self._at += 1
            return self._variables.get(name[0], "")
        modifier = MODIFIER.match(self._text, self._at)
        if modifier is None:
            raise InvalidArgument(self._unsupported())
        self._at = modifier.end()
        return self._modified(name[0], modifier[0], self._until_brace())

    def _unsupported(self) -> str:
        rest = self._text[self._at :]
        return f"unsupported modifier ({rest[:2]}) in substitution" if "}" in rest else "syntax error: missing '}'"

    def _until_brace(self) -> str:
        """Return the text up to the brace that closes, and go behind it."""
        start, depth = self._at, 1
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == self._escape:
                self._at += 1
            elif character == "$" and self._text[self._at + 1 : self._at + 2] == "{":
                depth += 1
                self._at += 1
            elif character == "}":
                depth -= 1
            self._at += 1
            if not depth:
                return self._text[start : self._at - 1]
        raise InvalidArgument("syntax error: missing '}'")

    def _word(self, text: str) -> str:
        return _Expansion(text, self._variables, self._escape, self._raw, self._depth + 1).run()

    def _modified(self, name: str, modifier: str, text: str) -> str:
        value = self._variables.get(name)
        there = bool(value) if modifier.startswith(":") else value is not None
        kind = modifier[-1]
        if kind == "-":
            return value or "" if there else self._word(text)
        if kind == "+":
            return self._word(text) if there else ""
        if kind == "?":
            if not there:
                raise InvalidArgument(f"{name}: {self._word(text) or 'not allowed to be unset'}")
            return value or ""
        if kind == "/":
            return self._replaced(value or "", text, count=1 if modifier == "/" else 0)
        return _trimmed(value or "", self._word(text), modifier)

    def _replaced(self, value: str, text: str, count: int) -> str:
        pattern, _, replacement = text.partition("/")
        found, new = _regex(self._word(pattern)), self._word(replacement)
        return found.sub(lambda _: new, value, count=count) if pattern else value


def _trimmed(value: str, pattern: str, modifier: str) -> str:
    """Cut what a pattern matches from one end; of several such pieces the shortest, or the longest if it is doubled."""
    lengths = range(len(value) + 1) if len(modifier) == 1 else range(len(value), -1, -1)
    whole = _regex(pattern)
    for length in lengths:
        if modifier[0] == "#" and whole.fullmatch(value, 0, length):
            return value[length:]
        if modifier[0] == "%" and whole.fullmatch(value, len(value) - length):
            return value[: len(value) - length]
    return value


def _regex(pattern: str) -> re.Pattern[str]:
    words = {"*": ".*", "?": "."}
    pieces = re.findall(r"\\.|.", re.sub(r"\*+", "*", pattern), re.DOTALL)
    return re.compile("".join(words.get(piece) or re.escape(piece[-1]) for piece in pieces), re.DOTALL)
