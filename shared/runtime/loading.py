"""Loading: a `Config` from flags, environment, ``dockyard.toml`` and defaults, in that order; what cannot be together.

Child processes get all of it as variables, and read no file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from shared.runtime.config import NAMES, PREFIX, SETTINGS, Config, ConfigError
from shared.runtime.logs.options import check_options, parse_options
from shared.runtime.settings import convert, to_text
from shared.runtime.slices import is_slice

__all__ = ["load_config", "load_leniently", "to_environ"]

DEFAULT_FILE = Path("/etc/dockyard/dockyard.toml")
NOT_SETTINGS = ("DOCKYARD_CONFIG", "DOCKYARD_LISTEN_FDS", "DOCKYARD_LISTEN_HOSTS")
LISTENING = ("listen_fds", "listen_hosts")


def _outside(config: Config) -> bool:
    """Say whether fixed-cidr is not a part of the network that bip names."""
    if not (config.bip and config.fixed_cidr):
        return False
    return not IPv4Network(config.fixed_cidr).subnet_of(IPv4Interface(config.bip).network)


# what cannot be had together, in the order of the 2014 daemon
CONTRADICTIONS: tuple[tuple[Callable[[Config], bool], str], ...] = (
    (
        lambda c: c.bridge == "none" and bool(c.bip),
        "You specified --bridge=none & --bip, mutually exclusive options. Please specify only one.",
    ),
    (
        lambda c: not c.firewall and not c.icc,
        "You specified --firewall=false with --icc=false. ICC uses the firewall to function. "
        "Please set --icc or --firewall to true.",
    ),
    (
        lambda c: not c.firewall and c.ip_masq,
        "You specified --firewall=false with --ip-masq=true. IP masquerading uses the firewall to function. "
        "Please set --ip-masq to false or --firewall to true.",
    ),
    (
        lambda c: c.bridge == "none" and bool(c.fixed_cidr),
        "You specified --bridge=none & --fixed-cidr, mutually exclusive options. Please specify only one.",
    ),
    (
        lambda c: not c.ipv6 and bool(c.bip6 or c.fixed_cidr_v6),
        "You specified --bip6 or --fixed-cidr-v6 without --ipv6. Please set --ipv6 to true.",
    ),
    (
        lambda c: c.cgroup_driver == "systemd" and bool(c.cgroup_parent) and not is_slice(c.cgroup_parent),
        'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice".',
    ),
    (_outside, "You specified a --fixed-cidr that is not inside the network of --bip."),
    (
        lambda c: c.storage_driver == "vfs" and bool(c.storage_opt),
        "You specified --storage-driver=vfs with a --storage-opt of overlay. Please specify only one.",
    ),
)


def load_config(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> Config:
    """Merge flags (None: not given), ``DOCKYARD_*`` and the TOML file; raises ConfigError.

    ``DOCKYARD_CONFIG`` names another file than `DEFAULT_FILE`; a file that was named must exist.
    """
    config = _merge(_values(_own_names(_from_file(environ, file).items())), flags, environ)
    for contradicts, message in CONTRADICTIONS:
        if contradicts(config):
            raise ConfigError(message)
    try:
        check_options(config.log_driver, parse_options(config.log_opts))
    except ValueError as error:
        raise ConfigError(f"log-opts: {error}") from None
    return config


def load_leniently(flags: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Config, str]:
    """Do the same for who speaks to a stack that runs, whatever the file says now; returns what is wrong with it, too.

    What is wrong in it, or contradicts something, counts for nothing or is let pass. Raises ConfigError for flags and
    environment.
    """
    try:
        return load_config(flags, environ), ""
    except ConfigError as error:
        return _merge(_what_is_right(environ), flags, environ), str(error)


def _what_is_right(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with suppress(ConfigError):
        for item in _from_file(environ).items():
            with suppress(ConfigError):
                found |= _values(_own_names([item]))
    return found


def _merge(from_file: Mapping[str, Any], flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    variables = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    given = _own_names((name, variables[name]) for name in sorted(variables) if name not in NOT_SETTINGS)
    given |= _own_names((name, value) for name, value in flags.items() if value is not None)
    made = {**from_file, **_values(given)}
    if not made.get("firewall", True):
        made.setdefault("ip_masq", False)
    if made.get("storage_opt"):
        made.setdefault("storage_driver", "overlay")
    listening = {name: convert(tuple[int, ...], environ.get(PREFIX + name.upper(), "")) for name in LISTENING}
    return Config(**made, **listening)


def to_environ(config: Config) -> dict[str, str]:
    """Return all settings as variables for child processes, which read no file: it may have changed meanwhile."""
    variables = {PREFIX + name.upper(): to_text(getattr(config, name)) for name in SETTINGS}
    variables |= {PREFIX + name.upper(): to_text(value) for name in LISTENING if (value := getattr(config, name))}
    return {**variables, "DOCKYARD_CONFIG": os.devnull}


def _own_names(given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return setting → value of one source. Raises ConfigError for a name that is none, and for two of one setting."""
    spelt: dict[str, str] = {}
    found = {}
    for key, value in given:
        name = NAMES.get(key.removeprefix(PREFIX).lower() if key.startswith(PREFIX) else key.replace("-", "_"))
        if name is None:
            raise ConfigError(f"unknown key: {key}")
        if name in spelt:
            raise ConfigError(f"{spelt[name]} and {key} are one setting")
        spelt[name], found[name] = key, value
    return found


def _from_file(environ: Mapping[str, str], file: Path | None = None) -> dict[str, Any]:
    named = file or (Path(environ["DOCKYARD_CONFIG"]) if environ.get("DOCKYARD_CONFIG") else None)
    return _read_file(named or DEFAULT_FILE, must_exist=named is not None)


def _read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"{path}: no such file") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in given.items()}


def _value(name: str, given: Any) -> Any:
    one = SETTINGS[name]
    try:
        value = convert(one.kind, given)
        if one.check is not None:
            for item in value if one.is_list else filter(None, [value]):
                one.check(item)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{one.key}: {error}") from None
    return value
