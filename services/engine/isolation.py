"""Isolation: which namespaces a container shares, and whether what else it asks for goes with that."""

from __future__ import annotations

import re

from shared.protocol import ContainerConfig, HostConfig, InvalidArgument

__all__ = ["check_isolation"]

# mode → what it may be, beside "container:X" where a colon is
MODES = {
    "ipc_mode": ("IPC", ("private", "none", "shareable", "host", "container:")),
    "pid_mode": ("PID", ("", "host", "container:")),
    "uts_mode": ("UTS", ("", "host")),
    "cgroupns_mode": ("cgroup namespace", ("private", "host")),
}
IPC_SYSCTLS = (
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni "
    "kernel.shm_rmid_forced"
).split()
SYSCTL = re.compile(r"[A-Za-z0-9_./-]+")


def check_isolation(config: ContainerConfig, host_config: HostConfig) -> None:
    """Check the modes of the namespaces, and sysctls. ``config``: the request's. Errors: InvalidArgument."""
    for field, (title, allowed) in MODES.items():
        mode = getattr(host_config, field)
        kind, colon, rest = mode.partition(":")
        if kind + colon not in allowed or bool(colon) != bool(rest):
            raise InvalidArgument(f"invalid {title} mode: {mode}")
    if host_config.isolation not in ("", "default"):
        raise InvalidArgument(f"invalid isolation ({host_config.isolation}): linux only supports 'default'")
    if host_config.uts_mode == "host" and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    if host_config.network_mode == "host" and host_config.links:
        raise InvalidArgument(LINKS_TEXT.format(kind="host type networking"))
    if host_config.network_mode.partition(":")[0] == "container":
        _check_joined_network(config, host_config)
    for name, value in (host_config.sysctls or {}).items():
        _check_sysctl(name, value, host_config)


LINKS_TEXT = "conflicting options: {kind} can't be used with links. This would result in undefined behavior"


def _check_joined_network(config: ContainerConfig, host_config: HostConfig) -> None:
    """What belongs to a network is the other container's."""
    if not host_config.network_mode.partition(":")[2]:
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    for given, text in (
        (config.hostname, "conflicting options: hostname and the network mode"),
        (host_config.links, LINKS_TEXT.format(kind="container type network")),
        (host_config.dns, "conflicting options: dns and the network mode"),
        (host_config.extra_hosts, "conflicting options: custom host-to-IP mapping and the network mode"),
        (
            host_config.port_bindings or host_config.publish_all_ports,
            "conflicting options: port publishing and the container type network mode",
        ),
        (config.exposed_ports, "conflicting options: port exposing and the container type network mode"),
        (config.mac_address, "conflicting options: mac-address and the network mode"),
    ):
        if given:
            raise InvalidArgument(text)


def _check_sysctl(name: str, value: str, host_config: HostConfig) -> None:
    """Allow what a namespace has of its own, if the container has that namespace."""
    dotted = name.replace("/", ".")
    if not SYSCTL.fullmatch(name) or "\n" in value:
        raise InvalidArgument(f"invalid sysctl: {name!r}")
    if dotted in IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        if host_config.ipc_mode == "host":
            raise InvalidArgument(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
    elif dotted.startswith("net."):
        if host_config.network_mode == "host":
            raise InvalidArgument(f'sysctl "{name}" not allowed in host network namespace')
    elif dotted == "kernel.domainname":
        if host_config.uts_mode == "host":
            raise InvalidArgument(f'sysctl "{name}" is not allowed in the hosts UTS namespace')
    else:
        raise InvalidArgument(f'sysctl "{name}" is not in a separate kernel namespace')
