"""Hosts: an address where the API listens, and what its clients may do there: ``ADDRESS[?OPTION=VALUE&…]``.

| option              | what                                                                                        |
|---------------------|---------------------------------------------------------------------------------------------|
| ``policy``          | ``full`` (the default) or ``read-only``                                                     |
| ``allow``           | an endpoint, as ``GET:/containers/{id}/json``; may be repeated: what is not named is refused |
| ``mode``, ``group`` | of a unix socket: octal digits, a name or number                                            |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

__all__ = ["FULL", "METRICS", "READ_ONLY", "Host", "is_metrics_address", "parse_host"]

FULL, READ_ONLY = "full", "read-only"
METRICS = -2  # in place of the index of a host: the listener of /metrics
OPTIONS = ("policy", "allow", "mode", "group")
ENDPOINT = re.compile(r"(?:(GET|HEAD|POST|PUT|DELETE):)?(/\S*)")
NAME = re.compile(r"\{[^/}]*\}")


@dataclass(frozen=True)
class Host:
    """``allowed``: (method, path) of endpoints, "" for all methods, ``{}`` for each name; empty: by the policy."""

    address: str
    policy: str = FULL
    allowed: tuple[tuple[str, str], ...] = field(default=())
    mode: int | None = None
    group: str | None = None


def parse_host(text: str) -> Host:
    """Parse an item of the setting ``hosts``; where the address leads is not looked at. Raises ValueError."""
    address, _, query = text.partition("?")
    try:
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ValueError(f"{text!r}: OPTION=VALUE is wanted after the ?") from None
    for name, _ in options:
        if name not in OPTIONS:
            raise ValueError(f"{text!r}: {name!r} is none of {', '.join(OPTIONS)}")
    given = dict(options)
    allowed = tuple(_endpoint(text, value) for name, value in options if name == "allow")
    if given.get("policy", FULL) not in (FULL, READ_ONLY) or (allowed and "policy" in given):
        raise ValueError(f"{text!r}: policy is full or read-only, and stands without allow")
    if not address.startswith("unix://") and {"mode", "group"} & set(given):
        raise ValueError(f"{text!r}: only unix:// has a mode and a group")
    return Host(address, given.get("policy", FULL), allowed, _mode(text, given.get("mode")), given.get("group"))


def is_metrics_address(text: str) -> None:
    """Raise ValueError for what is no address of /metrics, or has options."""
    if "?" in text or text.rpartition("://")[0] not in ("", "tcp", "unix"):
        raise ValueError(f"{text!r} is none of [tcp://]ADDRESS:PORT, unix:///PATH")


def _endpoint(text: str, value: str) -> tuple[str, str]:
    match = ENDPOINT.fullmatch(value)
    if match is None:
        raise ValueError(f"{text!r}: {value!r} is no endpoint, as GET:/containers/{{id}}/json")
    return match[1] or "", NAME.sub("{}", match[2])


def _mode(text: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch("0?[0-7]{3}", value):
        raise ValueError(f"{text!r}: mode is three octal digits, as 660")
    return int(value, 8)
