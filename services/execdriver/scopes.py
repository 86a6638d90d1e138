"""Scopes: transient units of systemd around processes that are there (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from jeepney import DBusAddress, DBusErrorResponse, MessageType, new_method_call
from jeepney.io.blocking import open_dbus_connection

from shared.protocol import DockyardError

__all__ = ["Scopes"]

MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)
EXISTS = "org.freedesktop.systemd1.UnitExists"
CALL_TIMEOUT = 10.0  # seconds
MOVE_TIMEOUT = 10.0  # seconds until systemd has moved a process into the scope
GONE_TIMEOUT = 5.0  # seconds that a scope of that name, whose processes have ended, may take to go
POLL_INTERVAL = 0.0005  # seconds
log = logging.getLogger("dockyard.execdriver")


class Connection(Protocol):
    def send_and_get_reply(self, message: Any, *, timeout: float | None = None) -> Any: ...

    def close(self) -> None: ...


class Scopes:
    """One connection for all threads, made again when it breaks (systemd or the bus may be restarted)."""

    def __init__(self, connect: Callable[[], Connection] = lambda: open_dbus_connection("SYSTEM")) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def start(self, name: str, slice_: str, pid: int) -> None:
        """Return when ``pid`` is in a scope of that name, in a slice, in every hierarchy. Errors: DockyardError.

        The scope is delegated, has no limits of its own, and is stopped after dockyard.service when the host goes down.
        """
        properties = [
            ("Description", ("s", f"dockyard container {name.removeprefix('dockyard-').removesuffix('.scope')}")),
            ("Slice", ("s", slice_)),
            ("PIDs", ("au", [pid])),
            ("Delegate", ("b", True)),
            ("Before", ("as", ["dockyard.service"])),
            ("CollectMode", ("s", "inactive-or-failed")),
            ("TasksMax", ("t", (1 << 64) - 1)),
        ]
        deadline = time.monotonic() + GONE_TIMEOUT
        try:
            while not self._ask_for(name, properties):
                if time.monotonic() > deadline:
                    raise DockyardError(f"systemd does not start {name}: one of that name is still there")
                time.sleep(0.01)
            self._await_move(pid, name)
        except DBusErrorResponse as error:
            raise DockyardError(f"systemd does not start {name}: {error.name} {error.data}") from error

    def _ask_for(self, name: str, properties: list[tuple[str, tuple[str, Any]]]) -> bool:
        """Return False if there still is a scope of that name."""
        try:
            self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", (name, "fail", properties, []))
        except DBusErrorResponse as error:
            if error.name == EXISTS:
                return False
            raise
        return True

    def _await_move(self, pid: int, name: str) -> None:
        """cgroup v1: systemd moves a process in one hierarchy after the other, and does nothing else meanwhile.

        Once it has begun, its next answer says that it is done. What the process forked before that would stay behind.
        """
        deadline = time.monotonic() + MOVE_TIMEOUT
        while f"/{name}\n" not in _cgroups(pid, name):
            if time.monotonic() > deadline:
                raise DockyardError(f"systemd has not moved process {pid} into {name}")
            time.sleep(POLL_INTERVAL)
        self._call("GetUnit", "s", (name,))

    def _call(self, method: str, signature: str, body: tuple[Any, ...]) -> None:
        """Errors: DBusErrorResponse (systemd refuses), DockyardError (it cannot be asked)."""
        message = new_method_call(MANAGER, method, signature, body)
        with self._lock:
            for attempt in (1, 2):
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                    answer = self._connection.send_and_get_reply(message, timeout=CALL_TIMEOUT)
                    break
                except (OSError, KeyError, TimeoutError) as error:
                    self._drop()
                    if attempt == 2 or isinstance(error, TimeoutError):
                        raise DockyardError(f"systemd cannot be asked: {error}") from error
                    log.info("asking systemd again error=%s", error)
        if answer.header.message_type is MessageType.error:
            raise DBusErrorResponse(answer)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _cgroups(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError as error:
        raise DockyardError(f"process {pid} has ended on its way into {name}: {error.strerror}") from error
