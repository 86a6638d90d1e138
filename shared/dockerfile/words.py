"""Words: quoting and lists in the lines of a Dockerfile."""

from __future__ import annotations

import json
import re

from shared.protocol import InvalidArgument

__all__ = ["WORDS", "json_list", "pairs", "split_words"]


def json_list(text: str) -> list[str] | None:
    """Return the JSON list of strings that ``text`` is, None if it is none."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(word, str) for word in value) else None


def _word(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    return re.compile(rf"""(?:{e}.|'[^']*'|"(?:{e}.|[^"{e}])*"|[^\s'"{e}]|{e}$)+""", re.DOTALL)


WORDS = {escape: _word(escape) for escape in ("\\", "`")}


def split_words(text: str, escape: str = "\\") -> list[str]:
    """Split at white space outside of quotes, which stay. Errors: InvalidArgument (a quote is not closed)."""
    words, end = [], 0
    for match in WORDS[escape].finditer(text):
        if text[end : match.start()].strip():
            break
        words.append(match[0])
        end = match.end()
    if text[end:].strip():
        raise InvalidArgument(f"unexpected end of statement while looking for matching quote: {text}")
    return words


def pairs(name: str, text: str, escape: str = "\\") -> list[tuple[str, str]]:
    """Read ``k=v k2="v 2"``, or the old form ``k the whole rest``; quotes stay. Errors: InvalidArgument."""
    words = split_words(text, escape)
    if not words or "=" not in words[0]:
        key, *rest = text.split(None, 1)
        if not rest:
            raise InvalidArgument(f"{name} must have two arguments")
        return [(key, rest[0].rstrip())]
    for word in words:
        if "=" not in word:
            raise InvalidArgument(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        if word.startswith("="):
            raise InvalidArgument(f"{name} names can not be blank")
    return [(key, value) for key, _, value in (word.partition("=") for word in words)]
