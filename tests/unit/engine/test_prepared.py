"""Prepared answers: as those made anew, after every change and as time goes by."""

from __future__ import annotations

import time
from typing import Any

from services.engine.prepared import Prepared
from services.engine.store import Store
from shared.protocol import ListContainers, RenameContainer, StartContainer
from tests.unit.engine.doing import create


def listed(stack: Any) -> list[tuple[str, str]]:
    return [(found.names[0], found.state) for found in stack.client.call(ListContainers(all=True))]


def test_each_change_is_in_the_next_answer(stack: Any) -> None:
    container = create(stack, "web")
    for _ in range(3):
        assert listed(stack) == [("/web", "created")]
    stack.client.call(StartContainer(container=container))
    assert listed(stack) == [("/web", "running")]
    stack.client.call(RenameContainer(container=container, name="other"))
    assert listed(stack) == [("/other", "running")]
    assert [found.names for found in stack.client.call(ListContainers(all=True, filters={"name": ["web"]}))] == []


def test_the_time_that_has_passed_is_in_the_answer(stack: Any) -> None:
    container = create(stack, "web")
    stack.client.call(StartContainer(container=container))
    (before,) = stack.client.call(ListContainers())
    time.sleep(2.1)
    (after,) = stack.client.call(ListContainers())
    assert before.status != after.status


def test_an_answer_is_made_once_while_nothing_changes(tmp_path: Any, monkeypatch: Any) -> None:
    store, made = Store(tmp_path), []
    monkeypatch.setattr(time, "time", lambda: 5.5)
    prepared = Prepared(store)

    def make() -> int:
        made.append(None)
        return len(made)

    def ask(limit: int = 0) -> bytes:
        return bytes(prepared.answer(ListContainers(limit=limit), make))

    assert [ask(), ask(), ask(1), ask()] == [b"1", b"1", b"2", b"1"]
    store.put_tag("a", "b")
    assert ask() == b"3"
    assert [ask(limit) for limit in range(100, 200)][-1] == b"103"
    assert len(prepared._answers) <= 16
    store.close()
