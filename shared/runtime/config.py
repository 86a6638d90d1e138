"""Config: every setting of dockyard, from flags, environment, ``dockyard.toml`` and defaults, in that order."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

__all__ = ["Config", "ConfigError", "load_config", "to_environ"]

DEFAULT_FILE = Path("/etc/dockyard/dockyard.toml")
PREFIX = "DOCKYARD_"


class ConfigError(Exception):
    """The configuration is wrong; the message names the key. Processes exit with 78 (EX_CONFIG)."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Times in seconds. List settings are comma-separated in the environment."""

    root: Path = Path("/var/lib/dockyard")  # what must survive a reboot
    run: Path = Path("/run/dockyard")  # what must not
    hosts: tuple[str, ...] = ()  # API listeners; empty: unix://RUN/docker.sock
    group: str = "docker"  # group of the API's unix socket; empty: none
    debug: bool = False
    storage_driver: str = ""  # empty: overlay where the kernel can, else vfs
    exec_driver: str = "crun"  # the OCI runtime's program
    bridge: str = "dockyard0"  # default bridge; none: no networking
    bip: str = ""  # its address, as 172.30.0.1/16; empty: the first pool that no route overlaps
    mtu: int = 0  # 0: that of the default route, else 1500
    icc: bool = True  # containers on the default bridge may talk to each other
    ip_forward: bool = True
    ip_masq: bool = True
    ip: str = "0.0.0.0"  # address that published ports bind to by default
    dns: tuple[str, ...] = ()  # empty: the host's
    dns_search: tuple[str, ...] = ()
    cgroup_parent: str = "/dockyard"
    shutdown_timeout: float = 5.0
    job_retention: float = 7 * 24 * 3600.0  # how long the job journal remembers
    event_retention: float = 7 * 24 * 3600.0  # how long the event journal remembers; the newest 100,000 in any case
    listen_fds: tuple[int, ...] = ()  # set by the launcher for the apiserver: descriptors of its listeners

    @property
    def api_hosts(self) -> tuple[str, ...]:
        return self.hosts or (f"unix://{self.run}/docker.sock",)


def load_config(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> Config:
    """Merge flags (None: not given), ``DOCKYARD_*`` and the TOML file; raises ConfigError.

    ``DOCKYARD_CONFIG`` names another file than `DEFAULT_FILE`; a file that was named must exist.
    """
    named = file or (Path(environ["DOCKYARD_CONFIG"]) if environ.get("DOCKYARD_CONFIG") else None)
    values = _read_file(named or DEFAULT_FILE, must_exist=named is not None)
    hints = get_type_hints(Config)
    for name in hints:
        if PREFIX + name.upper() in environ:
            values[name] = environ[PREFIX + name.upper()]
    values |= {name: value for name, value in flags.items() if value is not None}
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"unknown key: {unknown[0]}")
    return _check(Config(**{name: _convert(name, hints[name], value) for name, value in values.items()}))


def to_environ(config: Config) -> dict[str, str]:
    """Return the settings that differ from the defaults as ``DOCKYARD_*`` variables, for child processes."""
    default = Config()
    result = {}
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        if value != getattr(default, field.name):
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            result[PREFIX + field.name.upper()] = text
    return result


def _read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return {key.replace("-", "_"): value for key, value in tomllib.loads(path.read_text()).items()}
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"{path}: no such file") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _convert(name: str, kind: Any, value: Any) -> Any:
    try:
        if kind is bool:
            return _boolean(value)
        if kind is Path:
            return Path(_only(str, os.fspath(value))).absolute()
        if kind is str:
            return _only(str, value)
        if kind in (int, float):
            if isinstance(value, bool):
                raise ValueError("a number is wanted")
            return kind(value)
        item = int if kind == tuple[int, ...] else str
        items = [part for part in value.split(",") if part] if isinstance(value, str) else list(value)
        return tuple(item(part) for part in items)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from None


def _only(kind: type[str], value: Any) -> str:
    if not isinstance(value, kind):
        raise ValueError(f"a string is wanted, not {type(value).__name__}")
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = _only(str, value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"true or false is wanted, not {value!r}")


def _check(config: Config) -> Config:
    try:
        if config.bip:
            ipaddress.ip_interface(config.bip)
    except ValueError as error:
        raise ConfigError(f"bip: {error}") from None
    for name in ("ip", *(["dns"] if config.dns else [])):
        for address in config.dns if name == "dns" else (config.ip,):
            try:
                ipaddress.ip_address(address)
            except ValueError as error:
                raise ConfigError(f"{name}: {error}") from None
    if config.storage_driver not in ("", "overlay", "vfs"):
        raise ConfigError(f"storage_driver: {config.storage_driver!r} is none of overlay, vfs")
    return config
