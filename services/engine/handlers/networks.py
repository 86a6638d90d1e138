"""Networks: list and inspect."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from services.engine import filters
from shared.bus.handlers import Handlers
from shared.protocol import InspectNetwork, ListNetworks, NetworkInspect

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()

# key → does the network match one of the values?
TESTS: dict[str, Callable[[NetworkInspect, list[str]], bool]] = {
    "driver": lambda network, values: network.driver in values,
    "scope": lambda network, values: network.scope in values,
    "id": lambda network, values: any(network.id.startswith(value) for value in values),
    "name": lambda network, values: any(value in network.name for value in values),
    "type": lambda network, values: "builtin" in values,
    "dangling": lambda network, values: values[0].lower() in ("0", "false"),
    "label": lambda network, values: filters.match_labels(values, network.labels),
}


@jobs.handles(ListNetworks)
def list_networks(engine: Engine, job: ListNetworks) -> list[NetworkInspect]:
    filters.check_keys(job.filters, set(TESTS))
    wanted = {key: values for key, values in job.filters.items() if values}
    return [
        network
        for network in engine.networks.all(engine)
        if all(TESTS[key](network, values) for key, values in wanted.items())
    ]


@jobs.handles(InspectNetwork)
def inspect(engine: Engine, job: InspectNetwork) -> NetworkInspect:
    return engine.networks.inspect(engine, engine.networks.find(job.network))
