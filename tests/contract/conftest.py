"""A netdriver in a network namespace of its own. `run` is its run directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.netdriver.netdriver import NetDriver
from tests.unit.netdriver.rig import make, own_netns


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    with own_netns(tmp_path):
        yield tmp_path


@pytest.fixture
def netdriver(run: Path) -> NetDriver:
    driver = make(run)
    driver.init({})
    return driver
