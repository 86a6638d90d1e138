"""Events: the journal, followed, in the form and with the filters of the API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
from flask import Blueprint, Flask, Response, current_app, request

from services.apiserver import older, params
from services.apiserver.feed import Feed, Told
from services.apiserver.hangups import while_connected
from services.apiserver.jobs import read
from services.apiserver.stream import flushed
from services.apiserver.versions import api_version
from shared.bus.alarm import Alarm
from shared.protocol import Cancelled, Event, EventActor, InvalidArgument, ReadEvents
from shared.runtime.following import WAIT, follow

routes = Blueprint("events", __name__)

PATIENCE = 4.0  # seconds that the engine may be silent: the shorter, the more often each that waits must ask

BY_ACTOR = ("container", "daemon", "image", "network", "volume", "plugin", "service", "node", "secret", "config")


@routes.get("/events")
def events() -> Response:
    since, until, filters = params.nanoseconds("since"), params.nanoseconds("until"), params.filters()
    if until and since > until:
        given = params.text("since"), params.text("until")
        raise InvalidArgument(f"`since` time ({given[0]}) cannot be after `until` time ({given[1]})")
    newest = [] if "since" in request.args else read(ReadEvents(after=-1))
    return flushed(_follow(ReadEvents(after=newest[0].seq if newest else 0, since=since, until=until), filters))


def _follow(asked: ReadEvents, filters: dict[str, list[str]]) -> Iterator[bytes]:
    legacy, after = api_version() < (1, 52), asked.after
    rendered = partial(render, legacy=legacy)
    try:
        with while_connected() as gone:
            for batch in _batches(asked, gone):
                lines = []
                for told in batch:
                    event = told.event
                    if after and event.seq > after + 1 and not asked.since:
                        lines.append(rendered(_gap(after, event)))
                    after = event.seq
                    if older.can_see(event) and matches(event, filters):
                        lines.append(told.line(rendered))
                if lines:
                    yield b"".join(lines)
    except Cancelled:
        return


def _batches(asked: ReadEvents, gone: Alarm) -> Iterator[list[Told]]:
    """Take from the feed that all share; what has an end, or begins in the future, is asked for by itself."""
    if not asked.until and asked.since <= time.time_ns():
        return _feed().follow(asked, gone)
    return ([Told(event)] for event in follow(_read, asked))


def _read(asked: ReadEvents) -> list[Event]:
    return read(asked, timeout=WAIT * 4, patience=PATIENCE)


def _feed() -> Feed:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]

    def in_context(asked: ReadEvents) -> list[Event]:
        with app.app_context():
            return _read(asked)

    feed: Feed = app.extensions.get("dockyard.feed") or app.extensions.setdefault("dockyard.feed", Feed(in_context))
    return feed


def _gap(after: int, following: Event) -> Event:
    """Say that the reader was so slow that the journal has forgotten what it had not read yet."""
    lost = EventActor(id="", attributes={"lost": str(following.seq - after - 1)})
    return Event(type="daemon", action="gap", actor=lost, time=following.time, time_nano=following.time_nano)


def matches(event: Event, filters: dict[str, list[str]]) -> bool:
    """Values of a key are OR-ed, keys AND-ed; labels must all hold. Other keys say nothing (moby checks none here)."""
    attributes = event.actor.attributes
    for key, values in filters.items():
        if not values:
            continue
        if key == "type":
            matched = event.type in values
        elif key == "event":
            matched = event.action in values or event.action.partition(":")[0] in values
        elif key == "scope":
            matched = event.scope in values
        elif key == "label":
            matched = all(_has_label(attributes, value) for value in values)
        elif key not in BY_ACTOR:
            continue
        else:
            matched = any(_is_about(event, key, value) for value in values)
        if not matched:
            return False
    return True


def _has_label(attributes: dict[str, str], wanted: str) -> bool:
    name, has_value, value = wanted.partition("=")
    return attributes.get(name) == value if has_value else name in attributes


def _is_about(event: Event, key: str, value: str) -> bool:
    """Say whether ``value`` names the actor of that kind: an id, a name, or (as in moby) how one of them begins."""
    attributes = event.actor.attributes
    if key == "image" and event.type == "container":
        return _same_image(attributes.get("image", ""), value)
    if event.type != key:  # that a network has a container now is about the network
        return False
    name = attributes.get("name", "")
    if key == "image":
        return event.actor.id.startswith(value) or _same_image(name, value)
    return event.actor.id.startswith(value) or name.startswith(value)


def _same_image(image: str, wanted: str) -> bool:
    return wanted in (image, image.rpartition(":")[0])


def render(event: Event, *, legacy: bool) -> bytes:
    shown: dict[str, Any] = {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor.id, "Attributes": event.actor.attributes},
        "scope": event.scope,
        "time": event.time,
        "timeNano": event.time_nano,
    }
    if legacy:
        if event.type in ("container", "image"):
            shown = {"status": event.action, "id": event.actor.id, **shown}
        if event.type == "container":
            shown["from"] = event.actor.attributes.get("image", "")
        for name in ("id", "from"):  # prunes have none
            if shown.get(name) == "":
                del shown[name]
    return msgspec.json.encode(shown) + b"\n"
