"""The engine's job handlers: functions of (engine, job), one module a noun."""

from __future__ import annotations

from typing import Any

from services.engine.handlers import containers, control, images, networks, runtime, system, volumes
from shared.bus.handlers import Handlers

__all__ = ["all_jobs"]


def all_jobs() -> Handlers[Any]:
    return Handlers(containers.jobs, control.jobs, images.jobs, networks.jobs, runtime.jobs, system.jobs, volumes.jobs)
