"""Rename: names are taken and freed at once, for containers in any state, and outlive the engine."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol import (
    AwaitService,
    Conflict,
    InspectContainer,
    InvalidArgument,
    ListContainers,
    NotFound,
    PauseContainer,
    ReadEvents,
    RemoveContainer,
    RenameContainer,
    StartContainer,
)
from tests.unit.engine.doing import create


def rename(stack: Any, old: str, new: str) -> None:
    stack.client.call(RenameContainer(container=old, name=new))


def names(stack: Any) -> list[str]:
    return sorted(name for entry in stack.client.call(ListContainers(all=True)) for name in entry.names)


def test_a_name_is_free_as_soon_as_it_is_given_up(stack: Any) -> None:
    """As compose recreates: the new one under another name, the old one removed, the new one renamed."""
    create(stack, "web")
    create(stack, "0123456789ab_web")
    stack.client.call(RemoveContainer(container="web"))
    rename(stack, "0123456789ab_web", "web")
    create(stack, "0123456789ab_web")
    assert names(stack) == ["/0123456789ab_web", "/web"]


@pytest.mark.parametrize(
    ("new", "error", "text"),
    [
        ("web", InvalidArgument, "Renaming a container with the same name as its current name"),
        ("/web", InvalidArgument, "Renaming a container with the same name as its current name"),
        ("", InvalidArgument, "Neither old nor new names may be empty"),
        ("/", InvalidArgument, r"Invalid container name \(/\)"),
        ("a b", InvalidArgument, r"Invalid container name \(a b\)"),
        ("x", InvalidArgument, "Invalid container name"),
        ("db", Conflict, 'The container name "/db" is already in use by container'),
    ],
)
def test_what_cannot_be_a_name_changes_nothing(stack: Any, new: str, error: type[Exception], text: str) -> None:
    create(stack, "web")
    create(stack, "db")
    with pytest.raises(error, match=text):
        rename(stack, "web", new)
    assert names(stack) == ["/db", "/web"]


@pytest.mark.parametrize("paused", [False, True])
def test_what_runs_is_renamed_and_an_engine_that_comes_after_knows(stack: Any, paused: bool) -> None:
    container = create(stack, "web")
    stack.client.call(StartContainer(container="web"))
    if paused:
        stack.client.call(PauseContainer(container="web"))
    rename(stack, container[:8], "/site")
    stack.restart_engine()
    stack.client.call(AwaitService(service="engine"))
    assert stack.client.call(InspectContainer(container="site")).name == "/site"
    with pytest.raises(NotFound):
        stack.client.call(InspectContainer(container="web"))
    (event,) = [event for event in stack.client.call(ReadEvents(after=0)) if event.action == "rename"]
    assert (event.actor.attributes["oldName"], event.actor.attributes["name"]) == ("/web", "site")
    create(stack, "web")


def test_an_old_name_with_the_id_of_another_is_not_mistaken(stack: Any) -> None:
    first = create(stack, "web")
    create(stack, "db")
    rename(stack, "db", first[:12])
    assert stack.client.call(InspectContainer(container=first[:12])).name == f"/{first[:12]}"  # a name goes first
