"""Limits: OCI ``linux.resources`` and rlimits from HostConfig. crun translates them to cgroup v1 or v2."""

from __future__ import annotations

from typing import Any

from shared.protocol import HostConfig

__all__ = ["resources", "rlimits"]

CPU_PERIOD_US = 100_000


def resources(host_config: HostConfig, device_rules: list[dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {"devices": device_rules}
    memory = _given(
        limit=host_config.memory,
        reservation=host_config.memory_reservation,
        swap=_swap(host_config),
        disableOOMKiller=host_config.oom_kill_disable or False,
    )
    if host_config.memory_swappiness not in (None, -1):
        memory["swappiness"] = host_config.memory_swappiness
    cpu = _given(
        shares=host_config.cpu_shares,
        quota=host_config.cpu_quota or host_config.nano_cpus * CPU_PERIOD_US // 1_000_000_000,
        period=host_config.cpu_period or (CPU_PERIOD_US if host_config.nano_cpus else 0),
        cpus=host_config.cpuset_cpus,
        mems=host_config.cpuset_mems,
    )
    if host_config.pids_limit:
        made["pids"] = {"limit": host_config.pids_limit}
    if host_config.blkio_weight:
        made["blockIO"] = {"weight": host_config.blkio_weight}
    return made | _given(memory=memory, cpu=cpu)


def _swap(host_config: HostConfig) -> int:
    """Return memory + swap in bytes: twice the memory unless it was given (-1: no limit)."""
    if host_config.memory_swap:
        return host_config.memory_swap
    return host_config.memory * 2


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def rlimits(host_config: HostConfig) -> list[dict[str, Any]]:
    return [
        {"type": f"RLIMIT_{limit.name.upper()}", "soft": limit.soft, "hard": limit.hard}
        for limit in host_config.ulimits or []
    ]
