"""Parser: a Dockerfile as a list of instructions (Dockerfile reference §format, §parser directives, §here-documents).

What is read here is form alone: names, flags, continued lines, here-documents. Variables are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.protocol import InvalidArgument

__all__ = ["DEFAULT_ESCAPE", "Dockerfile", "Heredoc", "Instruction", "parse"]

DEFAULT_ESCAPE = "\\"
MAX_SIZE = 4 << 20  # characters
DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*$")
DIRECTIVES = ("escape", "syntax", "check")  # the two last mean nothing to a classic builder
COMMENT = re.compile(r"\s*#")
HEREDOC = re.compile(r"""(?<![<\S])[0-9]*<<(-?)(?:"([^"\s<]+)"|'([^'\s<]+)'|([^\s<"'|&;>()]+))""")
WITH_HEREDOCS = ("add", "copy", "run")


@dataclass(frozen=True)
class Heredoc:
    """``expand``: variables in its content are replaced (its word was not quoted)."""

    name: str
    content: str
    expand: bool = True


@dataclass(frozen=True)
class Instruction:
    """``name`` in lower case; ``text`` all behind it, flags too; ``original`` the whole as one line."""

    name: str
    text: str
    line: int
    original: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True)
class Dockerfile:
    instructions: list[Instruction] = field(default_factory=list)
    escape: str = DEFAULT_ESCAPE


def parse(text: str) -> Dockerfile:
    """Parse a Dockerfile. Errors: InvalidArgument."""
    if len(text) > MAX_SIZE:
        raise InvalidArgument(f"the Dockerfile is longer than {MAX_SIZE} characters")
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    escape, start = _directives(lines)
    return Dockerfile(list(_Reader(lines, start, escape)), escape)


def _directives(lines: list[str]) -> tuple[str, int]:
    """Return the escape character, and the number of lines that are directives."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines):
        match = DIRECTIVE.match(line)
        name = match[1].lower() if match else ""
        if match is None or name not in DIRECTIVES:
            return found.get("escape", DEFAULT_ESCAPE), number
        if name in found:
            raise InvalidArgument(f"only one {name} parser directive can be used")
        if name == "escape" and match[2] not in ("\\", "`"):
            raise InvalidArgument(f"invalid escape token '{match[2]}' does not match ` or \\")
        found[name] = match[2]
    return found.get("escape", DEFAULT_ESCAPE), len(lines)


class _Reader:
    def __init__(self, lines: list[str], start: int, escape: str) -> None:
        self._lines, self._at = lines, start
        e = re.escape(escape)
        self._continued = re.compile(rf"(?<!{e}){e}[ \t]*$")  # one that is escaped itself continues nothing

    def __iter__(self) -> Iterator[Instruction]:
        while self._at < len(self._lines):
            number = self._at + 1
            line = self._logical_line().strip()
            if not line:
                continue
            first, *rest_of = line.split(None, 1)
            name, rest = first.lower(), "".join(rest_of)
            yield Instruction(name, rest, number, line, tuple(self._heredocs(name, rest, number)))

    def _logical_line(self) -> str:
        """Return a line with those that continue it; comments and empty lines among them are left out."""
        pieces: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if COMMENT.match(line) or (pieces and not line.strip()):
                if not pieces:
                    return ""
                continue
            cut = self._continued.sub("", line)
            pieces.append(cut)
            if cut == line:
                break
        return "".join(pieces)

    def _heredocs(self, name: str, rest: str, number: int) -> Iterator[Heredoc]:
        words = rest.split(None, 1)
        if name == "onbuild" and len(words) > 1:
            name, rest = words[0].lower(), words[1]
        if name not in WITH_HEREDOCS or rest.startswith("["):
            return
        for match in HEREDOC.finditer(_unquoted(rest)):
            word = match[2] or match[3] or match[4]
            yield Heredoc(word, self._body(word, chomp=bool(match[1]), number=number), expand=match[4] is not None)

    def _body(self, word: str, *, chomp: bool, number: int) -> str:
        body: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            plain = line.lstrip("\t") if chomp else line
            if plain == word:
                return "".join(f"{piece}\n" for piece in body)
            body.append(plain)
        raise InvalidArgument(f"dockerfile parse error on line {number}: unterminated heredoc {word}")


def _unquoted(text: str) -> str:
    """Blank what stands in quotes, but a here-document's word: ``echo "<<EOF"`` begins none."""
    return re.sub(
        r"""(<<-?)("[^"\s<]+"|'[^'\s<]+')|'[^']*'|"(?:\\.|[^"\\])*\"""",
        lambda match: match[0] if match[1] else " " * len(match[0]),
        text,
    )
