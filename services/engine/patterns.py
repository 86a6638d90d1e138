"""Patterns: what texts of users may look like; and what they match names with, in RE2's syntax, which is Go's.

RE2 takes time in proportion to the text, whatever the expression; one for Python's `re` could hold the engine for ever.
"""

from __future__ import annotations

import re2

__all__ = ["is_word", "matches"]

OPTIONS = re2.Options()
OPTIONS.log_errors = False


def is_word(text: str) -> bool:
    """Say whether a text stays one word of one line, where it is written into a file of lines."""
    return text.isprintable() and not any(char.isspace() for char in text)


def matches(pattern: str, name: str) -> bool:
    """Say whether a name is the pattern, or has a match of it; what is no expression matches nothing more."""
    if pattern == name:
        return True
    try:
        return re2.search(pattern, name, OPTIONS) is not None
    except re2.error:
        return False
