"""Joining: the namespaces of other containers that one shares (modes ``container:ID``), held open while it is made.

A descriptor of ours keeps each, so that its path cannot come to mean another's if that container ends meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from services.execdriver.bundle import Bundle
from shared.protocol import Conflict, HostConfig, joined_container

__all__ = ["joined"]

FILES = {"network": "net", "pid": "pid", "ipc": "ipc"}  # kind → name in /proc/PID/ns
TITLES = {"network": "network", "pid": "PID", "ipc": "IPC"}


@contextmanager
def joined(host_config: HostConfig, find: Callable[[str], Bundle]) -> Iterator[dict[str, str]]:
    """Yield kind → path of each namespace that is another container's. Errors: Conflict (that one does not run)."""
    modes = {"network": host_config.network_mode, "pid": host_config.pid_mode, "ipc": host_config.ipc_mode}
    with ExitStack() as stack:
        paths = {}
        for kind, mode in modes.items():
            if donor := joined_container(mode):
                descriptor = _open(find(donor), kind)
                stack.callback(os.close, descriptor)
                paths[kind] = f"/proc/{os.getpid()}/fd/{descriptor}"
        yield paths


def _open(donor: Bundle, kind: str) -> int:
    process = donor.init()
    if process is not None:
        try:
            descriptor = os.open(f"/proc/{process.pid}/ns/{FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC)
            if process.lives():  # so what was opened is its own
                return descriptor
            os.close(descriptor)
        except FileNotFoundError:
            pass
        finally:
            process.close()
    raise Conflict(f"cannot join {TITLES[kind]} of a non running container: {donor.container}")
