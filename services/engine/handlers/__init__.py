"""The engine's job handlers: functions of (engine, job), one module a noun."""

from __future__ import annotations

from typing import Any

from services.engine.handlers import (
    archive,
    build,
    containers,
    control,
    disk,
    exec,
    graph,
    image_removal,
    images,
    networks,
    registry,
    runtime,
    system,
    volumes,
)
from shared.bus.handlers import Handlers

__all__ = ["all_jobs"]

NOUNS = (
    archive,
    build,
    containers,
    control,
    disk,
    exec,
    graph,
    image_removal,
    images,
    networks,
    registry,
    runtime,
    system,
    volumes,
)


def all_jobs() -> Handlers[Any]:
    return Handlers(*(noun.jobs for noun in NOUNS))
