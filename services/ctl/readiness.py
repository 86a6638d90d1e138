"""Readiness: what is asked, and of whom, before the next process is started. All calls block; use a thread."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from services.ctl.listeners import Listener
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.protocol import (
    AwaitService,
    DockyardError,
    JobNotFound,
    ListJobs,
    ListServices,
    Ping,
    Unavailable,
    job_type,
)

__all__ = ["TRY_TIMEOUT", "Readiness"]

TRY_TIMEOUT = 5.0  # seconds of one attempt
QUIET_PATIENCE = 60.0  # seconds that jobs which cannot be done again are given before their process is replaced
QUIET_INTERVAL = 0.05  # seconds
WAITING = frozenset({"wait", "detach", "execDetach"})  # who waits loses nothing
log = logging.getLogger("dockyard.arbiter")


class Readiness:
    """Errors of the waits: TimeoutError naming the part that is late: not after ``patience``, in seconds."""

    def __init__(self, run: Path, listeners: list[Listener], patience: float) -> None:
        self._bus = Client(engine_endpoint(run), "arbiter")
        self._listeners = listeners
        self._patience = patience
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """End all waits."""
        self._given_up.set()

    def wait_for(self, service: str) -> None:
        """Wait for the engine to answer, or for a driver to have told the engine that it takes jobs."""
        if service == "engine":
            self._until(service, lambda: self._bus.call(Ping(), timeout=TRY_TIMEOUT))
        else:
            self._until(service, lambda: self._bus.call(AwaitService(service=service), timeout=TRY_TIMEOUT))

    def wait_for_api(self) -> None:
        """Wait for the boot to be complete, and then for a request on an accepted connection to be answered."""
        self._until("the boot", lambda: self._bus.call(AwaitService(service="engine"), timeout=TRY_TIMEOUT))
        self._until("apiserver", self._ping_api)

    # -- of an upgrade

    def registered(self, service: str) -> set[int]:
        """Return the pids under which the engine knows a service."""
        found: set[int] = set()

        def ask() -> None:
            known = self._bus.call(ListServices(), timeout=TRY_TIMEOUT)
            found.update(one.pid for one in known if one.service == service)

        self._until(service, ask)
        return found

    def wait_for_successor(self, service: str, known: set[int]) -> None:
        """Wait until the engine knows another of a service than those it knew; of itself: that its boot is complete."""

        def ask() -> None:
            if service == "engine":
                self._bus.call(AwaitService(service=service), timeout=TRY_TIMEOUT)
                return
            now = self._bus.call(ListServices(), timeout=TRY_TIMEOUT)
            if not any(one.service == service and one.ready and one.pid not in known for one in now):
                time.sleep(QUIET_INTERVAL)
                raise Unavailable(f"{service} has not registered")

        self._until(service, ask)

    def await_quiet(self, service: str) -> None:
        """Wait until a process does nothing that could not be done again; not for ever, and never fails."""
        deadline = time.monotonic() + QUIET_PATIENCE
        while time.monotonic() < deadline and not self._given_up.is_set():
            try:
                jobs = self._bus.call(ListJobs(running=True, limit=10_000), timeout=TRY_TIMEOUT)
            except DockyardError as error:
                log.warning("not known whether %s is quiet error=%s", service, error)
                return
            mine = [job for job in jobs if service in ("engine", job.service) and not _can_be_done_again(job.name)]
            if not mine:
                return
            time.sleep(QUIET_INTERVAL)
        log.warning("replaced under a job that cannot be done again service=%s", service)

    def is_alive(self) -> bool:
        """Say whether engine and API answer now."""
        try:
            self._bus.call(Ping(), timeout=TRY_TIMEOUT)
            self._ping_api()
        except (DockyardError, OSError, http.client.HTTPException) as error:
            log.warning("no sign of life error=%s", error)
            return False
        return True

    def _until(self, part: str, attempt: Callable[[], object]) -> None:
        deadline = time.monotonic() + self._patience
        while not self._given_up.is_set():
            try:
                attempt()
                return
            except (DockyardError, OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{part} is not ready in time: {error}") from error

    def _ping_api(self) -> None:
        connection = http.client.HTTPConnection("dockyard", timeout=TRY_TIMEOUT)
        connection.sock = self._connect()
        try:
            connection.request("GET", "/_ping")
            answer = connection.getresponse()
            if answer.status != 200 or answer.read() != b"OK":
                raise http.client.HTTPException(f"/_ping answers {answer.status}")
        finally:
            connection.close()

    def _connect(self) -> socket.socket:
        listener = next(listener for listener in self._listeners if not listener.is_encrypted)
        made = socket.socket(listener.family, socket.SOCK_STREAM)
        made.settimeout(TRY_TIMEOUT)
        made.connect(listener.getsockname())
        return made


def _can_be_done_again(name: str) -> bool:
    try:
        return name in WAITING or job_type(name).REPEATABLE
    except JobNotFound:
        return False
