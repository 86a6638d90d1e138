"""Projects for Compose on a stack of their own; every test runs with each version of Compose that is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.composing import Project, major, programs
from tests.integration.conftest import Stack, shared_stack, stack

__all__ = ["shared_stack", "stack"]

Make = Callable[..., Project]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with each version that has what it is about; with none, pytest says that it was skipped."""
    if "compose" in metafunc.fixturenames:
        lowest = getattr(metafunc.function, "since", 1)
        chosen = [program for program in programs() if major(program) >= lowest]
        metafunc.parametrize("compose", chosen, ids=[f"v{major(program)}" for program in chosen])


@pytest.fixture
def project(stack: Stack, compose: str, tmp_path: Path) -> Iterator[Make]:
    """Make projects; at the end each is taken down, and nothing of it may be left."""
    made: list[Project] = []

    def make(services: dict[str, Any], name: str = "app", **top: Any) -> Project:
        made.append(Project(stack, compose, tmp_path / name, services, **top))
        return made[-1]

    yield make
    for one in made:
        one.down()
        assert one.ids(all_=True) == []
    networks = stack.out("network", "ls", "-q", "--filter", "type=custom").split()
    assert networks == [], "a network is left"
