"""Facts about this host, as `version` and `info` report them."""

from __future__ import annotations

import functools
import os
import platform
import re
import socket
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from shared.runtime.machine import architecture

__all__ = ["HostFacts", "facts", "ipv4_forwarding", "new_engine_id", "program_version"]


@dataclass(frozen=True)
class HostFacts:
    hostname: str
    kernel: str
    machine: str  # as uname says, x86_64
    architecture: str  # as OCI says, amd64
    operating_system: str
    os_version: str
    cpus: int
    memory: int  # bytes
    cgroup_version: str


@functools.cache
def facts() -> HostFacts:
    release = platform.freedesktop_os_release()
    machine = platform.machine()
    return HostFacts(
        hostname=socket.gethostname(),
        kernel=platform.release(),
        machine=machine,
        architecture=architecture(),
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        cpus=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_version="2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
    )


def ipv4_forwarding() -> bool:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"


@functools.cache
def program_version(program: str) -> str:
    """Return the version that a program tells of itself, or an empty string if it is not there."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+\.\d+(\.\d+)?\S*", answer.stdout)
    return found.group() if found else ""


def new_engine_id() -> str:
    return str(uuid.uuid4())
