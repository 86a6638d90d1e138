"""Who cannot be connected to a network, and in which words he is told."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol import ConnectNetwork, InvalidArgument
from tests.unit.engine.test_networks import make, start


@pytest.mark.parametrize(
    ("mode", "network", "text"),
    [
        ("host", "app", "container sharing network namespace with another container or host cannot be connected"),
        ("app", "host", "container cannot be disconnected from host network or connected to host network"),
    ],
)
def test_the_hosts_network_is_nobody_elses(stack: Any, mode: str, network: str, text: str) -> None:
    make(stack)
    container = start(stack, "web", network=mode)
    with pytest.raises(InvalidArgument, match=text):
        stack.client.call(ConnectNetwork(network=network, container=container))
