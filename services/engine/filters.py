"""Filters of `docker ps`, `docker images` and the prunes: values of one key are OR-ed (labels AND-ed), keys AND-ed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.patterns import matches
from services.engine.record import ContainerRecord
from services.engine.views import ports
from shared.protocol import InvalidArgument, NotFound

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["boolean", "check_keys", "container_filter", "match_labels", "parse_time", "prune_filter"]

Filters = dict[str, list[str]]
Test = Callable[["Engine", ContainerRecord, str], bool]
HEALTHS = ("none", "starting", "healthy", "unhealthy")
PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?")
TRUTHS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
MAX_PORT = 65535
STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


def check_keys(filters: Filters, known: set[str]) -> None:
    for key in filters:
        if key not in known:
            raise InvalidArgument(f"invalid filter '{key}'")


def match_labels(wanted: list[str], labels: dict[str, str]) -> bool:
    """Each of ``key`` or ``key=value`` must hold."""
    return all(
        labels.get(key) == value if has_value else key in labels
        for key, has_value, value in (text.partition("=") for text in wanted)
    )


def container_filter(engine: Engine, filters: Filters) -> Callable[[Container], bool]:
    """Return a test for containers. Errors: InvalidArgument (unknown key or value), NotFound (before, since)."""
    check_keys(filters, {*TESTS, "label", "before", "since", "publish", "expose"})
    for status in filters.get("status", []):
        if status not in STATUSES:
            raise InvalidArgument(f"invalid filter 'status={status}'")
    for health in filters.get("health", []):
        if health not in HEALTHS:
            raise InvalidArgument(f"unrecognised filter value for health: {health}")
    for code in filters.get("exited", []):
        if not re.fullmatch(r"-?[0-9]{1,9}", code):
            raise InvalidArgument(f"invalid filter 'exited={code}'")
    for truth in filters.get("is-task", []):
        if truth.lower() not in TRUTHS:
            raise InvalidArgument(f"invalid filter 'is-task=[{truth}]'")
    has_port = _port_filter(filters.get("publish", []), filters.get("expose", []))
    before = [engine.containers.find(ref).record.created for ref in filters.get("before", [])]
    since = [engine.containers.find(ref).record.created for ref in filters.get("since", [])]

    def wanted(container: Container) -> bool:
        record = container.record
        return (
            all(record.created < moment for moment in before)
            and all(record.created > moment for moment in since)
            and match_labels(filters.get("label", []), record.config.labels or {})
            and has_port(record)
            and all(
                any(test(engine, record, value) for value in filters[key])
                for key, test in TESTS.items()
                if filters.get(key)
            )
        )

    return wanted


def _name(_engine: Engine, record: ContainerRecord, value: str) -> bool:
    return matches(value, f"/{record.name}") or matches(value, record.name)


def _ancestor(engine: Engine, record: ContainerRecord, value: str) -> bool:
    try:
        return engine.images.find(value).id == record.image
    except (NotFound, InvalidArgument):
        return value == record.requested_image


def _ports(text: str) -> tuple[int, int, str]:
    """Parse ``80``, ``80/udp`` or ``80-90/tcp``. Errors: InvalidArgument."""
    found = PORTS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if found is None or not first <= last <= MAX_PORT:
        raise InvalidArgument(f"invalid port: {text}")
    return first, last, found[3] or "tcp"


def _port_filter(published: list[str], exposed: list[str]) -> Callable[[ContainerRecord], bool]:
    """Return a test of a list's PORTS: one on the host is in ``published``, or one inside in ``exposed``.

    Errors: InvalidArgument.
    """
    on_host, inside = [_ports(text) for text in published], [_ports(text) for text in exposed]

    def wanted(record: ContainerRecord) -> bool:
        return not (on_host or inside) or any(
            any(first <= (port.public_port or 0) <= last and port.type == kind for first, last, kind in on_host)
            or any(first <= port.private_port <= last and port.type == kind for first, last, kind in inside)
            for port in ports(record)
        )

    return wanted


def _network(engine: Engine, record: ContainerRecord, value: str) -> bool:
    return any(
        value == name or ((network := place.network or engine.networks.id_of(name)).startswith(value) and network)
        for name, place in record.endpoints.items()
    )


TESTS: dict[str, Test] = {
    "id": lambda _e, record, value: record.id.startswith(value),
    "name": _name,
    "status": lambda _e, record, value: record.status == value,
    "exited": lambda _e, record, value: record.finished > 0 and not record.running and record.exit_code == int(value),
    "ancestor": _ancestor,
    "network": _network,
    "volume": lambda _e, record, value: any(
        value in (point.name or point.source, point.destination) for point in record.mounts
    ),
    "health": lambda _e, record, value: value == (record.health.status if record.health else "none"),
    "isolation": lambda _e, _record, value: value in ("", "default"),
    "is-task": lambda _e, _record, value: not TRUTHS[value.lower()],
}


def prune_filter(filters: Filters) -> Callable[[int, dict[str, str]], bool]:
    """Return a test of (created in nanoseconds, labels) for a prune. Errors: InvalidArgument."""
    check_keys(filters, {"until", "label", "label!"})
    until = _until(filters)

    def wanted(created: int, labels: dict[str, str]) -> bool:
        return (
            (until is None or created / 1e9 < until)
            and match_labels(filters.get("label", []), labels)
            and not any(match_labels([text], labels) for text in filters.get("label!", []))
        )

    return wanted


def _until(filters: Filters) -> float | None:
    """Return the time of the filter ``until``, in seconds since the epoch. Errors: InvalidArgument."""
    given = filters.get("until", [])
    if len(given) > 1:
        raise InvalidArgument("more than one until filter specified")
    return parse_time(given[0]) if given else None


def parse_time(text: str) -> float:
    """Return seconds since the epoch from a timestamp, an RFC 3339 time, or a duration before now (``1h30m``)."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text):
        seconds = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
        return time.time() - sum(float(n) * seconds[u] for n, u in re.findall(r"([\d.]+)(ms|s|m|h)", text))
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from None


def boolean(given: dict[str, list[str]], key: str, *, default: bool) -> bool:
    """Read a filter that is true or false. Errors: InvalidArgument, also for both at once."""
    truths = {TRUTHS.get(value.lower()) for value in given.get(key, [str(default)])}
    if truths in ({True}, {False}):
        return True in truths
    raise InvalidArgument(f"invalid filter '{key}=[{' '.join(given[key])}]'")
