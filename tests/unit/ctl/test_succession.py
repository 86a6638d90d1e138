"""What one arbiter leaves to the next, which may be of another release."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from services.ctl.succession import VARIABLE, take


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    made = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    for descriptor in made:
        os.set_inheritable(descriptor, True)
    yield made
    for descriptor in made:
        os.close(descriptor)


def test_the_first_of_its_kind_is_left_nothing() -> None:
    assert take({}) is None


def test_descriptors_go_to_the_successor_and_no_further(descriptors: list[int]) -> None:
    lock, run_lock, listener = descriptors
    left = {"lock": lock, "run_lock": run_lock, "listeners": {"127.0.0.1:1": listener}, "generation": 2}
    environ = {VARIABLE: json.dumps(left)}
    legacy = take(environ)
    assert legacy is not None
    assert (legacy.descriptors, legacy.generation, environ) == (descriptors, 2, {})
    assert not any(map(os.get_inheritable, descriptors))


def test_what_an_arbiter_without_a_lock_in_the_run_directory_has_left_is_understood(descriptors: list[int]) -> None:
    legacy = take({VARIABLE: json.dumps({"lock": descriptors[0], "children": {"engine": [7]}})})
    assert legacy is not None
    assert (legacy.run_lock, legacy.descriptors, legacy.children) == (-1, descriptors[:1], {"engine": [7]})
