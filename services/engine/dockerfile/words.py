"""Words: quoting, variables and lists in the lines of a Dockerfile (Dockerfile reference, §environment replacement)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from shared.protocol import InvalidArgument

__all__ = ["expand", "json_list", "logical_lines", "pairs", "split_words"]

VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])((?:\\.|[^}\\])*))?\})", re.ASCII)
WORD = re.compile(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"\\]|\\$)+""", re.DOTALL)


def logical_lines(texts: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (instruction in lower case, the rest) of each line: comments left out, continued lines joined."""
    text = re.sub(r"^\s*#.*$", "", "\n".join(texts), flags=re.MULTILINE)
    for line in re.sub(r"\\[ \t]*\n", "", text).splitlines():
        if words := line.strip().split(maxsplit=1):
            yield words[0].lower(), words[1] if len(words) > 1 else ""


def json_list(text: str) -> list[str] | None:
    """Return the JSON list of strings that ``text`` is, None if it is none."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(word, str) for word in value) else None


def split_words(text: str) -> list[str]:
    """Split at white space outside of quotes, which stay. Errors: InvalidArgument (a quote is not closed)."""
    words, end = [], 0
    for match in WORD.finditer(text):
        if text[end : match.start()].strip():
            break
        words.append(match[0])
        end = match.end()
    if text[end:].strip():
        raise InvalidArgument(f"unexpected end of statement while looking for matching quote: {text}")
    return words


def pairs(name: str, text: str) -> list[tuple[str, str]]:
    """Read ``k=v k2="v 2"``, or the old form ``k the whole rest``; quotes stay. Errors: InvalidArgument."""
    words = split_words(text)
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        if not value.strip():
            raise InvalidArgument(f"{name} must have two arguments")
        return [(key, value.strip())]
    for word in words:
        if "=" not in word:
            raise InvalidArgument(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        if word.startswith("="):
            raise InvalidArgument(f"{name} names can not be blank")
    return [(key, value) for key, _, value in (word.partition("=") for word in words)]


def expand(text: str, environment: list[str]) -> str:
    """Replace variables, and take quotes and backslashes away, as the builder does for a word."""
    variables = dict(entry.split("=", 1) for entry in environment if "=" in entry)
    result, position, quoted = "", 0, False
    while position < len(text):
        character = text[position]
        if character == "'" and not quoted:
            end = text.find("'", position + 1)
            end = len(text) if end < 0 else end
            result += text[position + 1 : end]
            position = end + 1
        elif character == '"':
            quoted = not quoted
            position += 1
        elif character == "\\" and position + 1 < len(text):
            following = text[position + 1]
            result += f"\\{following}" if quoted and following not in '"$\\' else following
            position += 2
        elif match := VARIABLE.match(text, position):
            result += _value(match, variables)
            position = match.end()
        else:
            result += character
            position += 1
    return result


def _value(match: re.Match[str], variables: dict[str, str]) -> str:
    """Return what ``$X``, ``${X}``, ``${X:-word}``, ``${X-word}``, ``${X:+word}`` or ``${X+word}`` stands for."""
    name, operator, word = match[1] or match[2], match[3] or "", match[4] or ""
    there = bool(variables.get(name)) if operator.startswith(":") else name in variables
    if operator.endswith("-"):
        return variables[name] if there else word
    if operator.endswith("+"):
        return word if there else ""
    return variables.get(name, "")
