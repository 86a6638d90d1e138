"""Addresses of the API with their options."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.config import ConfigError
from shared.runtime.hosts import Host, parse_host
from shared.runtime.loading import load_config


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("unix:///x", Host("unix:///x")),
        ("unix:///x?", Host("unix:///x")),
        ("unix:///x?policy=read-only&mode=666&group=", Host("unix:///x", "read-only", (), 0o666, "")),
        ("tcp://127.0.0.1:1?policy=full", Host("tcp://127.0.0.1:1")),
        ("fd://?allow=/events&allow=GET:/containers/{id}/json",
         Host("fd://", "full", (("", "/events"), ("GET", "/containers/{}/json")))),
    ],
)  # fmt: skip
def test_hosts(text: str, host: Host) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    ["unix:///x?polic=full", "unix:///x?policy=none", "unix:///x?mode=9", "unix:///x?mode=1777",
     "tcp://:1?mode=660", "fd://?group=x", "unix:///x?allow=events", "unix:///x?allow=FETCH:/events",
     "unix:///x?policy=full&allow=/events", "unix:///x?x"],
)  # fmt: skip
def test_what_is_none_names_its_key(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^hosts: "):
        load_config({"hosts": [text]}, {"DOCKYARD_CONFIG": "/dev/null"})


@given(st.text())
def test_anything_else_is_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_host(f"unix:///x?{text}")
