"""Spans: jobs that have ended, sent on as OpenTelemetry spans (OTLP over HTTP), in a thread of the SDK's.

A trace is a job and all it caused: its id is that of the first job. A span's id is the latter half of its job's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.engine.flights import Flight
from services.engine.journal import UNRECORDED, caller_of
from shared.runtime.config import ConfigError

__all__ = ["Spans", "trace_of"]

DEPTH = 32  # jobs that a job may be below the first one
SPAN = 16  # hex digits

Find = Callable[[str], Flight | None]


def trace_of(flight: Flight, find: Find) -> str:
    """Return the id of the job that all this began with, as far as it is still under way."""
    first = flight.header.id
    parent = flight.header.parent
    for _ in range(DEPTH):
        if not parent:
            break
        first = parent
        above = find(parent)
        parent = above.header.parent if above is not None else ""
    return first


class Spans:
    """``endpoint``: where to, as http://127.0.0.1:4318/v1/traces. Errors: ConfigError (the extra is not installed)."""

    def __init__(self, endpoint: str, find: Find, version: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise ConfigError(
                "otlp-endpoint: dockyard's extra `otel` is not installed: pip install dockyard[otel]"
            ) from None
        self._find = find
        self._resource = Resource.create({"service.name": "dockyard", "service.version": version})
        self._processor: Any = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint))

    def note(self, flight: Flight) -> None:
        if flight.header.name not in UNRECORDED:
            self._processor.on_end(self._span(flight))

    def close(self) -> None:
        """Send what there is still to send; blocks for some seconds at most."""
        self._processor.shutdown()

    def _span(self, flight: Flight) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind, Status, StatusCode

        header = flight.header
        trace = trace_of(flight, self._find)
        status = Status(StatusCode.ERROR, flight.message) if flight.status else Status(StatusCode.OK)
        attributes: dict[str, Any] = {
            "dockyard.job": header.id, "dockyard.args": flight.args, "dockyard.service": flight.service,
            "dockyard.caller": caller_of(header), "client.address": header.caller.peer if header.caller else "",
            "error.type": flight.code,
        }  # fmt: skip
        return ReadableSpan(
            name=header.name,
            context=_context(trace, header.id),
            parent=_context(trace, header.parent) if header.parent else None,
            resource=self._resource,
            attributes={name: value for name, value in attributes.items() if value},
            kind=SpanKind.INTERNAL if header.parent else SpanKind.SERVER,
            status=status,
            start_time=int(flight.started * 1e9),
            end_time=int((flight.ended or flight.started) * 1e9),
        )


def _context(trace: str, job: str) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(
        int(trace, 16), int(job[-SPAN:], 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
