"""The engine's job handlers: functions of (engine, job), one module a noun."""

from __future__ import annotations

from typing import Any

from services.engine.handlers import archive, containers, control, graph, images, networks, runtime, system, volumes
from shared.bus.handlers import Handlers

__all__ = ["all_jobs"]


def all_jobs() -> Handlers[Any]:
    nouns = (archive, containers, control, graph, images, networks, runtime, system, volumes)
    return Handlers(*(noun.jobs for noun in nouns))
