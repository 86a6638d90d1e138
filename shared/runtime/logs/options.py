"""Options: log drivers and what may be asked of them, in Docker's words.

Sources: moby daemon/logger (factory.go, jsonfilelog, local, journald), docs "Configure logging drivers".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "DRIVERS",
    "LogLimits",
    "Unsupported",
    "check_host",
    "check_options",
    "drivers_here",
    "limits_of",
    "option_warnings",
    "parse_options",
]

MAX_SIZE, MAX_FILE = 20_000_000, 5  # of what is kept where nothing else is asked for
JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
ATTRIBUTES = ("labels", "labels-regex", "env", "env-regex")
MODES = ("", "blocking", "non-blocking")
NOT_BUFFERED = (
    "log opt 'mode=non-blocking': output goes to the page cache as it comes, and is never dropped: "
    "there is no buffer, and max-buffer-size has no effect"
)
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp])?(i)?b?", re.IGNORECASE)
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
TEMPLATE = re.compile(r"\{\{\s*(.*?)\s*\}\}")
FIELDS = (".ID", ".FullID", ".Name", ".FullName", ".ImageID", ".ImageFullID", ".ImageName", ".DaemonName")


class Unsupported(ValueError):
    """Docker has it, and dockyard does not."""


@dataclass(frozen=True)
class LogLimits:
    """``max_size`` of a file in bytes; ``max_file`` of them are kept, those that are written no more ``compress``ed."""

    max_size: int = MAX_SIZE
    max_file: int = MAX_FILE
    compress: bool = False


def drivers_here() -> list[str]:
    """List the drivers that this host has, as `docker info` shows them."""
    return [*(["journald"] if JOURNAL_SOCKET.exists() else []), "json-file", "local"]


def parse_options(items: Iterable[str]) -> dict[str, str]:
    """Parse ``name=value`` items; one without ``=`` goes on with a value that has commas. Raises ValueError."""
    found: dict[str, str] = {}
    name = ""
    for item in items:
        if "=" in item:
            name, _, value = item.partition("=")
            found[name] = value
        elif name:
            found[name] += f",{item}"
        else:
            raise ValueError(f"{item!r} is not NAME=VALUE")
    return found


def check_options(driver: str, options: Mapping[str, str]) -> None:
    """Refuse what Docker refuses; raises ValueError, and Unsupported for what dockyard alone does not have."""
    if driver == "none":
        return
    _check_mode(driver, options)
    if driver not in DRIVERS:
        raise ValueError(f"logger: no log driver named '{driver}' is registered")
    DRIVERS[driver]({name: value for name, value in options.items() if name not in ("mode", "max-buffer-size")})


def check_host(driver: str) -> None:
    """Refuse a driver that this host is not made for. Raises ValueError."""
    if driver == "journald" and not JOURNAL_SOCKET.exists():
        raise ValueError("journald is not enabled on this host")


def option_warnings(options: Mapping[str, str]) -> list[str]:
    """Say what of checked options has no effect."""
    return [NOT_BUFFERED] if options.get("mode") == "non-blocking" else []


def _check_mode(driver: str, options: Mapping[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in MODES:
        raise ValueError(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise ValueError("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            parse_size(options["max-buffer-size"], 1024)
        except ValueError as error:
            raise ValueError(f"error parsing option max-buffer-size: {error}") from None
    if mode == "non-blocking" and driver == "journald":
        raise Unsupported("log opt 'mode=non-blocking' is not implemented for journald log driver")


def _check_json_file(options: Mapping[str, str]) -> None:
    _check_names(options, ("max-file", "max-size", "compress", *ATTRIBUTES, "tag"), "{name}' for json-file log driver")
    _check_attributes(options)
    limits_of("json-file", options)


def _check_local(options: Mapping[str, str]) -> None:
    _check_names(options, ("max-file", "max-size", "compress"), "{name}' for log driver local")
    limits_of("local", options)


def _check_journald(options: Mapping[str, str]) -> None:
    _check_names(options, (*ATTRIBUTES, "tag"), "{name}' for journald log driver")
    for name in ATTRIBUTES:
        if options.get(name):
            raise Unsupported(f"log opt '{name}' is not implemented for journald log driver")
    _check_attributes(options)


DRIVERS: dict[str, Callable[[Mapping[str, str]], None]] = {
    "journald": _check_journald,
    "json-file": _check_json_file,
    "local": _check_local,
}


def _check_names(options: Mapping[str, str], known: tuple[str, ...], words: str) -> None:
    for name in options:
        if name not in known:
            raise ValueError(f"unknown log opt '{words.format(name=name)}")


def _check_attributes(options: Mapping[str, str]) -> None:
    for name in ("labels-regex", "env-regex"):
        try:
            re.compile(options.get(name, ""))
        except re.error as error:
            raise ValueError(f"error parsing regexp: {error}: `{options[name]}`") from None
    for field in TEMPLATE.findall(options.get("tag", "")):
        if field not in FIELDS:
            raise Unsupported(f"log opt 'tag': {{{{{field}}}}} is not implemented; there is {', '.join(FIELDS)}")


def limits_of(driver: str, options: Mapping[str, str]) -> LogLimits:
    """Return what of a log is kept. Raises ValueError in Docker's words.

    As with Docker, json-file with ``max-size`` alone keeps one file; without it, our own defaults hold.
    """
    size = parse_size(options["max-size"]) if "max-size" in options else MAX_SIZE
    if size <= 0:
        raise ValueError("max-size must be a positive number")
    count = 1 if driver == "json-file" and "max-size" in options else MAX_FILE
    if "max-file" in options:
        count = _integer(options["max-file"])
    if count < 1:
        raise ValueError("max-file cannot be less than 1")
    compress = _boolean(options["compress"]) if "compress" in options else driver == "local" and count > 1
    if compress and count == 1:
        if driver == "local":
            raise ValueError("compression cannot be enabled when max file count is 1")
        raise ValueError("compress cannot be true when max-file is less than 2 or max-size is not set")
    return LogLimits(size, count, compress)


def parse_size(text: str, base: int = 1000) -> int:
    """Parse as docker/go-units: ``10m`` is 10,000,000 bytes (``base`` 1024: RAMInBytes)."""
    match = SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    return int(float(match[1]) * base ** " kmgtp".index((match[2] or " ").lower()))


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,18}", text):
        raise ValueError(f'strconv.Atoi: parsing "{text}": invalid syntax')
    return int(text)


def _boolean(text: str) -> bool:
    if text not in (*TRUE, *FALSE):
        raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in TRUE
