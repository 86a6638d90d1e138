"""HostConfig of a new container: completed with its defaults, its references resolved, and checked as a whole.

Texts as moby's, which users know. What this kernel lacks is discarded with a warning; nothing else is.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from services.engine.host import facts
from services.engine.isolation import check_isolation
from services.engine.links import resolve_links
from services.engine.logdrivers import complete_log_config
from services.engine.patterns import is_word
from services.engine.resources import check_resources
from services.engine.runtimes import available_runtimes
from services.engine.sysinfo import SysInfo, sysinfo
from services.engine.unsupported import refuse_unsupported
from shared.protocol import (
    ContainerConfig,
    HostConfig,
    InvalidArgument,
    NotFound,
    NotImplementedByUs,
    RestartPolicy,
    capability_names,
    is_user_defined,
    joined_container,
    parse_security_options,
)
from shared.runtime.logs.options import option_warnings
from shared.runtime.slices import is_slice

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["check_port", "check_restart_policy", "complete_host_config"]

SHM_SIZE = 64 << 20  # bytes
RESTART_POLICIES = ("no", "always", "unless-stopped", "on-failure")
RLIMITS = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
TMPFS_FLAGS = (
    "defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime noatime diratime "
    "nodiratime bind rbind unbindable runbindable private rprivate shared rshared slave rslave relatime norelatime "
    "strictatime nostrictatime"
).split()
TMPFS_SETTINGS = ("mode", "uid", "gid", "size", "nr_blocks", "nr_inodes", "mpol")
DEVICE_RULE = re.compile(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}")
PORT = re.compile(r"([0-9]{1,5})(/(tcp|udp|sctp))?")
PORT_RANGE = re.compile(r"([0-9]{1,5})(-[0-9]{1,5})?")


def complete_host_config(engine: Engine, config: ContainerConfig, given: HostConfig) -> tuple[HostConfig, list[str]]:
    """Return a complete copy, and warnings. ``config``: the request's. Errors: InvalidArgument, NotImplementedByUs."""
    refuse_unsupported(given)
    made = msgspec.structs.replace(given)
    _fill_in(engine, made)
    check_isolation(config, made)
    warnings = check_resources(made, sysinfo())
    for check in CHECKS:
        check(made)
    if is_user_defined(made.network_mode):
        made.links = None  # they are the endpoint's: names that its DNS server knows
    else:
        made.links = resolve_links(engine, made.links or []) or None
    warnings += _security(made, sysinfo())
    if made.cpu_percent:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        made.cpu_percent = 0
    warnings += option_warnings(made.log_config.config or {})
    if made.port_bindings and made.network_mode in ("host", "none"):
        warnings.append(f"Published ports are discarded when using {made.network_mode} network mode")
    return made, warnings


def _fill_in(engine: Engine, made: HostConfig) -> None:
    """Set the defaults that `inspect` shows, and ids where other containers are named."""
    if made.network_mode in ("", "default"):
        made.network_mode = "bridge"
    made.runtime = made.runtime or engine.config.runtime
    if made.runtime not in available_runtimes(engine.config):
        raise InvalidArgument(f"unknown or invalid runtime name: {made.runtime}")
    made.ipc_mode = made.ipc_mode or "private"
    made.cgroupns_mode = made.cgroupns_mode or ("private" if facts().cgroup_version == "2" else "host")
    made.shm_size = made.shm_size or SHM_SIZE
    made.console_size = made.console_size or [0, 0]
    if made.memory and not made.memory_swap:
        made.memory_swap = 2 * made.memory
    if made.pids_limit is not None and made.pids_limit <= 0:
        made.pids_limit = None
    made.log_config = complete_log_config(engine.config, made.log_config)
    if engine.config.cgroup_driver == "systemd" and made.cgroup_parent and not is_slice(made.cgroup_parent):
        raise InvalidArgument('cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"')
    made.restart_policy.name = made.restart_policy.name or "no"
    for field in ("network_mode", "ipc_mode", "pid_mode"):
        if ref := joined_container(getattr(made, field)):
            try:
                setattr(made, field, f"container:{engine.containers.find(ref).id}")
            except NotFound as error:
                if field != "network_mode":
                    raise InvalidArgument(error.message) from None
                # it may come before the start, as with Docker


def check_restart_policy(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """Errors: InvalidArgument."""
    if policy.name not in RESTART_POLICIES:
        raise InvalidArgument(f"invalid restart policy '{policy.name}'")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and policy.name != "no":
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")


def _check_restart(made: HostConfig) -> None:
    check_restart_policy(made.restart_policy, auto_remove=made.auto_remove)


def _check_numbers(made: HostConfig) -> None:
    if made.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if not -1000 <= made.oom_score_adj <= 1000:
        raise InvalidArgument(f"Invalid value {made.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    size = made.console_size or []
    if len(size) not in (0, 2) or any(number < 0 for number in size):
        raise InvalidArgument(f"invalid ConsoleSize: {size}")
    if made.cpu_count:
        raise InvalidArgument("invalid option: CpuCount is not supported on linux")
    if made.io_maximum_bandwidth:
        raise InvalidArgument("invalid option: QoS maximum bandwidth configuration is not supported on linux")
    if made.io_maximum_iops:
        raise InvalidArgument("invalid option: QoS maximum IOPs configuration is not supported on linux")
    if "" in (made.annotations or {}):
        raise InvalidArgument("invalid Annotations: the empty string is not permitted as an annotation key")


def _check_ulimits(made: HostConfig) -> None:
    for limit in made.ulimits or []:
        if limit.name not in RLIMITS:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        if min(limit.soft, limit.hard) < -1:
            raise InvalidArgument(f"invalid ulimit {limit.name}: {limit.soft}:{limit.hard}")
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            why = f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            raise InvalidArgument(why)


def _check_tmpfs(made: HostConfig) -> None:
    for target, options in (made.tmpfs or {}).items():
        if not target.startswith("/"):
            raise InvalidArgument(f"invalid mount path: '{target}' mount path must be absolute")
        if not target.strip("/"):
            raise InvalidArgument("invalid specification: destination can't be '/'")
        for word in filter(None, options.split(",")):
            if word not in TMPFS_FLAGS and word.partition("=")[0] not in TMPFS_SETTINGS:
                raise InvalidArgument(f'invalid tmpfs option ["{word}"]')


def _check_devices(made: HostConfig) -> None:
    for mapping in made.devices or []:
        if not mapping.path_on_host.startswith("/") or not (mapping.path_in_container or "/").startswith("/"):
            raise InvalidArgument(f"invalid device path: {mapping.path_on_host}:{mapping.path_in_container}")
        if set(mapping.cgroup_permissions) - set("rwm"):
            raise InvalidArgument(f"invalid device mode: {mapping.cgroup_permissions}")
    for rule in made.device_cgroup_rules or []:
        if not DEVICE_RULE.fullmatch(rule):
            raise InvalidArgument(f"invalid device cgroup rule format: '{rule}'")
    for request in made.device_requests or []:
        wanted = " ".join(f"[{' '.join(names)}]" for names in request.capabilities or [])
        raise InvalidArgument(f'could not select device driver "{request.driver}" with capabilities: [{wanted}]')


def _check_names(made: HostConfig) -> None:
    """Check what becomes lines of hosts and resolv.conf."""
    for entry in made.extra_hosts or []:
        name, separator, address = entry.replace("=", ":", 1).partition(":")
        if not separator or not name or not is_word(name):
            raise InvalidArgument(f'bad format for add-host: "{entry}"')
        if address != "host-gateway" and not _is_address(address.strip("[]")):
            raise InvalidArgument(f'invalid IP address in add-host: "{address}"')
    for server in made.dns or []:
        if not _is_address(server):
            raise InvalidArgument(f"bad nameserver address: {server}")
    for field in ("dns_search", "dns_options"):
        for word in getattr(made, field) or []:
            if not word or not is_word(word):
                raise InvalidArgument(f'invalid value in {field.replace("_", " ")}: "{word}"')


def _is_address(text: str) -> bool:
    """Say whether it is an address and no more: a zone (``fe80::1%eth0``) may be any text for `ipaddress`."""
    if not is_word(text):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_ports(made: HostConfig) -> None:
    for port, bindings in (made.port_bindings or {}).items():
        check_port(port)
        for binding in bindings or []:
            if binding.host_port and not _is_port_range(binding.host_port):
                raise InvalidArgument(f'invalid port specification: "{binding.host_port}"')
            if binding.host_ip and not _is_address(binding.host_ip.strip("[]")):
                raise InvalidArgument(f"invalid host IP address: {binding.host_ip}")


def _is_port_range(text: str) -> bool:
    """Say whether it is ``8000`` or ``8000-8010``; 0 is any port."""
    if not PORT_RANGE.fullmatch(text):
        return False
    numbers = [int(word) for word in text.split("-")]
    return numbers == sorted(numbers) and numbers[-1] < 65536


def check_port(port: str) -> None:
    """Check ``80`` or ``80/tcp``. Errors: InvalidArgument."""
    found = PORT.fullmatch(port)
    if found is None or not 0 < int(found[1]) < 65536:
        raise InvalidArgument(f'invalid port specification: "{port}"')


def _check_capabilities(made: HostConfig) -> None:
    for field, names in (("CapAdd", made.cap_add), ("CapDrop", made.cap_drop)):
        try:
            capability_names(names or [])
        except InvalidArgument as error:
            raise InvalidArgument(f"invalid {field}: {error.message}") from None


def _check_words(made: HostConfig) -> None:
    """A NUL would end a word early: what is done would not be what was checked."""
    for word in _strings(msgspec.to_builtins(made)):
        if "\0" in word:
            raise InvalidArgument(f"invalid HostConfig: {word!r} has a NUL in it")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in itertools.chain(value, value.values()) if isinstance(value, dict) else value:
            yield from _strings(part)


CHECKS: tuple[Callable[[HostConfig], None], ...] = (
    _check_words, _check_restart, _check_numbers, _check_ulimits, _check_tmpfs, _check_devices, _check_names,
    _check_ports, _check_capabilities,
)  # fmt: skip


def _security(made: HostConfig, system: SysInfo) -> list[str]:
    """Check SecurityOpt, and apply what is another field; returns what this host has not. Errors: InvalidArgument."""
    options = parse_security_options(made.security_opt or [])
    if options.system_paths_unconfined or made.privileged:
        made.masked_paths, made.readonly_paths = made.masked_paths or [], made.readonly_paths or []
    warnings = []
    if options.apparmor not in ("", "unconfined") and not system.apparmor:
        warnings.append(f"Your kernel does not support AppArmor. Profile {options.apparmor} discarded.")
    labels = [label for label in options.labels if label != "disable"]
    if labels and system.selinux:
        raise NotImplementedByUs(f"SecurityOpt label={labels[0]} is not implemented")
    if labels:
        warnings.append(f"Your kernel does not support SELinux. Label {labels[0]} discarded.")
    return warnings
