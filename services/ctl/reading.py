"""Reading: a bus for jobs that only read. While the engine is silent, its reader answers from the records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

from shared.bus.bus import PATIENCE, Bus, EngineSilent, OnStatus
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint, reader_endpoint
from shared.protocol import Job, Unavailable

__all__ = ["Reading"]

R = TypeVar("R")
ENGINE_PATIENCE = 0.8  # seconds of silence


class Reading:
    """A `Bus`; stderr is told when it is not the engine that has answered."""

    def __init__(self, run: Path) -> None:
        self._engine: Bus = Client(engine_endpoint(run), "ctl")
        self._reader: Bus = Client(reader_endpoint(run), "ctl")

    def call(
        self,
        job: Job[R],
        *,
        timeout: float | None = 60.0,
        on_status: OnStatus | None = None,
        patience: float = PATIENCE,
    ) -> R:
        try:
            return self._engine.call(job, timeout=timeout, on_status=on_status, patience=min(ENGINE_PATIENCE, patience))
        except EngineSilent as silence:
            try:
                result = self._reader.call(job, timeout=timeout, patience=ENGINE_PATIENCE)
            except Unavailable:
                raise silence from None
            print("dockyard: the engine does not answer; this is what its records say", file=sys.stderr)
            return result
