"""The table of a service's job handlers: functions of (service, job)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

from msgspec import Raw

from shared.protocol import Job, JobNotFound, job_name

__all__ = ["Handler", "Handlers"]

S = TypeVar("S")
R = TypeVar("R")
Handler = Callable[[Any, Any], Any]


class Handlers(Generic[S]):
    def __init__(self, *tables: Handlers[S]) -> None:
        self._table: dict[str, Handler] = {}
        for table in tables:
            for name in table:
                self._add(name, table[name])

    def handles(self, kind: type[Job[R]]) -> Callable[[Callable[[S, Any], R | Raw | Awaitable[R]]], Handler]:
        """Register the decorated function for a job type; a second handler for one job is a ValueError.

        It returns the result, or its encoding (`msgspec.Raw`).
        """

        def register(handler: Callable[[S, Any], R | Raw | Awaitable[R]]) -> Handler:
            self._add(job_name(kind), handler)
            return handler

        return register

    def _add(self, name: str, handler: Handler) -> None:
        if name in self._table:
            raise ValueError(f"Can't overwrite handler for command {name}")
        self._table[name] = handler

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._table))

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def __getitem__(self, name: str) -> Handler:
        try:
            return self._table[name]
        except KeyError:
            raise JobNotFound(f"{name}: command not found") from None
