"""Instructions: what ``CMD``, ``ENV`` and the like do to a configuration (Dockerfile reference; moby's dispatchers)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from shared.dockerfile.expansion import expand
from shared.dockerfile.parser import DEFAULT_ESCAPE, parse
from shared.dockerfile.words import json_list, pairs, split_words
from shared.protocol import ContainerConfig, HealthConfig, InvalidArgument
from shared.runtime.signals import parse_signal

__all__ = ["DEFAULT_SHELL", "INSTRUCTIONS", "Scope", "apply", "apply_changes", "environment"]

DEFAULT_SHELL = ["/bin/sh", "-c"]
MAX_PORT = 65535
DURATION_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
SHORTEST = DURATION_UNITS["ms"]  # of a health check's times but 0, which is the default
HEALTH_OPTIONS = {
    "interval": "interval",
    "timeout": "timeout",
    "start-period": "start_period",
    "start-interval": "start_interval",
}


@dataclass(frozen=True)
class Scope:
    """What words are read by: the variables that they may name, and the character that takes away a meaning."""

    variables: Mapping[str, str]
    escape: str = DEFAULT_ESCAPE

    def expand(self, text: str) -> str:
        return expand(text, self.variables, self.escape)

    def split(self, text: str) -> list[str]:
        return split_words(text, self.escape)


def environment(config: ContainerConfig) -> dict[str, str]:
    """Return the variables of a configuration."""
    return dict(entry.split("=", 1) for entry in config.env or [] if "=" in entry)


def apply(config: ContainerConfig, name: str, rest: str, scope: Scope) -> None:
    """Change ``config`` by one instruction, its flags in ``rest``. Errors: InvalidArgument."""
    if not rest:
        raise InvalidArgument(f"{name.upper()} requires at least one argument")
    INSTRUCTIONS[name](config, rest, scope)


def apply_changes(config: ContainerConfig, changes: list[str]) -> ContainerConfig:
    """Return ``config`` changed by instructions, one or more in each text. Errors: InvalidArgument."""
    changed = msgspec.structs.replace(config)
    parsed = parse("\n".join(changes))
    names = {step.name for step in parsed.instructions}
    for step in parsed.instructions:
        if step.name not in INSTRUCTIONS:
            raise InvalidArgument(f"{step.name} is not a valid change command")
        apply(changed, step.name, step.text, Scope(environment(changed), parsed.escape))
    if "entrypoint" in names and "cmd" not in names:
        changed.cmd = None  # it belonged to another entrypoint
    return changed


def _command(config: ContainerConfig, text: str) -> list[str] | None:
    words = json_list(text)
    return [*(config.shell or DEFAULT_SHELL), text] if words is None else words or None


def _cmd(config: ContainerConfig, text: str, scope: Scope) -> None:
    config.cmd = _command(config, text)


def _entrypoint(config: ContainerConfig, text: str, scope: Scope) -> None:
    config.entrypoint = _command(config, text)


def _shell(config: ContainerConfig, text: str, scope: Scope) -> None:
    words = json_list(text)
    if not words:
        raise InvalidArgument("SHELL requires the arguments to be in JSON form")
    config.shell = words


def _env(config: ContainerConfig, text: str, scope: Scope) -> None:
    merged = {entry.split("=", 1)[0]: entry for entry in config.env or []}
    for key, value in pairs("ENV", text, scope.escape):
        name = scope.expand(key)
        if not name:
            raise InvalidArgument("ENV names can not be blank")
        merged[name] = f"{name}={scope.expand(value)}"
    config.env = list(merged.values())


def _label(config: ContainerConfig, text: str, scope: Scope) -> None:
    new = {scope.expand(key): scope.expand(value) for key, value in pairs("LABEL", text, scope.escape)}
    if "" in new:
        raise InvalidArgument("LABEL names can not be blank")
    config.labels = {**(config.labels or {}), **new}


def _expose(config: ContainerConfig, text: str, scope: Scope) -> None:
    ports = dict(config.exposed_ports or {})
    for word in scope.split(text):
        for port in scope.expand(word).split():
            ports |= {key: {} for key in _ports(port)}
    config.exposed_ports = ports


def _ports(text: str) -> list[str]:
    """Return ``["80/tcp"]`` for ``80``, and all of a range. Errors: InvalidArgument."""
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", text, re.IGNORECASE | re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if match is None or not first <= last <= MAX_PORT:
        raise InvalidArgument(f"invalid containerPort: {text}")
    return [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]


def _user(config: ContainerConfig, text: str, scope: Scope) -> None:
    if len(scope.split(text)) != 1:
        raise InvalidArgument("USER requires exactly one argument")
    config.user = scope.expand(text)


def _volume(config: ContainerConfig, text: str, scope: Scope) -> None:
    words = json_list(text)
    paths = [scope.expand(word) for word in (scope.split(text) if words is None else words)]
    if not all(path.strip() for path in paths):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    config.volumes = {**(config.volumes or {}), **{key: {} for key in paths}}


def _workdir(config: ContainerConfig, text: str, scope: Scope) -> None:
    if not (given := scope.expand(text)):
        raise InvalidArgument("cannot normalize nothing")
    path = posixpath.join("/", config.working_dir, given)
    config.working_dir = posixpath.normpath(path).replace("//", "/")


def _onbuild(config: ContainerConfig, text: str, scope: Scope) -> None:
    trigger = text.split(maxsplit=1)[0].upper()
    if trigger == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise InvalidArgument(f"{trigger} isn't allowed as an ONBUILD trigger")
    config.on_build = [*(config.on_build or []), text]


def _stopsignal(config: ContainerConfig, text: str, scope: Scope) -> None:
    signal = scope.expand(text)
    parse_signal(signal)
    config.stop_signal = signal


def _healthcheck(config: ContainerConfig, text: str, scope: Scope) -> None:
    health = HealthConfig()
    while match := re.match(r"--([\w-]+)=(\S*)\s*", text):
        _health_option(health, match[1], match[2])
        text = text[match.end() :]
    kind, *arguments = text.split(None, 1) or [""]
    if kind.startswith("--"):
        raise InvalidArgument(f"missing a value on flag: {kind}")
    rest = "".join(arguments).rstrip()
    if not kind:
        raise InvalidArgument("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if rest:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        health.test = ["NONE"]
    elif kind.upper() == "CMD":
        words = json_list(rest)
        if not (rest if words is None else words):
            raise InvalidArgument("Missing command after HEALTHCHECK CMD")
        health.test = ["CMD-SHELL", rest] if words is None else ["CMD", *words]
    else:
        raise InvalidArgument(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    config.healthcheck = health


def _health_option(health: HealthConfig, name: str, value: str) -> None:
    if name in HEALTH_OPTIONS:
        setattr(health, HEALTH_OPTIONS[name], _duration(name, value))
    elif name != "retries":
        raise InvalidArgument(f"unknown flag: --{name}")
    elif not re.fullmatch(r"[0-9]{1,9}", value):
        raise InvalidArgument(f'invalid value "{value}" for --retries')
    else:
        health.retries = int(value)


def _duration(name: str, text: str) -> int:
    """Return nanoseconds of a duration as Go writes it (``1m30s``). Errors: InvalidArgument."""
    units = "|".join(DURATION_UNITS)
    if text != "0" and not re.fullmatch(rf"(\d+(\.\d+)?({units}))+", text):
        raise InvalidArgument(f"invalid duration of --{name}: {text!r}")
    duration = sum(int(float(n) * DURATION_UNITS[unit]) for n, unit in re.findall(rf"([\d.]+)({units})", text))
    if 0 < duration < SHORTEST:
        raise InvalidArgument(f'Interval "{name}" cannot be less than 1ms')
    return duration


INSTRUCTIONS: dict[str, Callable[[ContainerConfig, str, Scope], None]] = {
    "cmd": _cmd,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "healthcheck": _healthcheck,
    "label": _label,
    "onbuild": _onbuild,
    "shell": _shell,
    "stopsignal": _stopsignal,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}
