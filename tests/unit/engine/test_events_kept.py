"""How long the journal of events keeps what, without an engine."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from services.engine.events import KEPT, TRIM_EVERY, Events
from services.engine.store import Store
from shared.protocol import Event, EventActor


def test_execs_beyond_the_newest_are_forgotten_however_new_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path)
    now, told = time.time_ns(), ["exec_create: x", "start", "exec_die", "die"]
    with store.transaction():
        for seq, action in enumerate(told, 1):
            event = Event(
                type="container", action=action, actor=EventActor(id="c", attributes={"name": "exec_"}),
                time=now // 10**9, time_nano=now, seq=seq,
            )  # fmt: skip
            store.db.execute("INSERT INTO events VALUES (?,?,?)", (seq, now, msgspec.json.encode(event)))
    events = Events(store, retention=3600.0)
    events.newest = KEPT + TRIM_EVERY  # as many came since
    events._forget(now)
    kept = [msgspec.json.decode(row[0], type=Event).action for row in store.db.execute("SELECT record FROM events")]
    assert kept == ["start", "die"]
    store.close()
