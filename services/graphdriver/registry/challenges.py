"""Challenges: the WWW-Authenticate header (RFC 9110 §11.6.1), read into schemes with their parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Challenge", "parse_challenges"]

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
SCHEME = re.compile(rf"[\s,]*({TOKEN})(?=[\s,]|$)")
PARAMETER = re.compile(rf'[\s,]*({TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({TOKEN}))', re.DOTALL)
TOKEN68 = re.compile(r"\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))")
MAX_HEADER = 8 << 10  # characters that are looked at


@dataclass(frozen=True)
class Challenge:
    """``scheme`` and the parameters' names are in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """Return what could be read; what comes after something that is no challenge is left out."""
    header, position, found = header[:MAX_HEADER], 0, []
    while (start := SCHEME.match(header, position)) is not None:
        position = start.end()
        parameters: dict[str, str] = {}
        while (parameter := PARAMETER.match(header, position)) is not None:
            name, quoted, plain = parameter.groups()
            parameters.setdefault(
                name.lower(), re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if plain is None else plain
            )
            position = parameter.end()
        if not parameters and (blob := TOKEN68.match(header, position)) is not None:
            position = blob.end()
        found.append(Challenge(start[1].lower(), parameters))
    return found
