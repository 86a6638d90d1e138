"""The table of options in docs/networks.md and the code are one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from services.engine.networkspecs import network_asked
from shared.protocol import CreateNetwork, NotImplementedByUs

DOCUMENT = Path(__file__).parents[3] / "docs" / "networks.md"
ROW = re.compile(r"\| `(?P<key>com\.docker\.network\.[\w.]+)(=(?P<value>[^`]+))?` \| (?P<verdict>works|refused)\b")
ROWS = [match.groupdict() for match in map(ROW.match, DOCUMENT.read_text().splitlines()) if match]
ID = "ab" * 32


class Options(dict[str, str]):
    """Note which keys are asked for."""

    asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


def asked(**options: str) -> Any:
    job = CreateNetwork(name="app", enable_ipv6=True, internal=True, options=Options(options, other="1"))
    return network_asked(job, ID)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['key']}={row['value']}")
def test_an_option_does_what_the_document_says(row: dict[str, str]) -> None:
    options = {row["key"]: row["value"] or "true"}
    if row["verdict"] == "refused":
        with pytest.raises(NotImplementedByUs, match=re.escape(row["key"])):
            asked(**options)
    else:
        as_without = row["value"] == "nat" or row["key"] == "com.docker.network.enable_ipv6"
        assert (asked(**options) == asked()) is as_without


def test_the_document_tells_of_every_option_that_the_code_knows_and_of_no_other() -> None:
    Options.asked.clear()
    asked()
    assert {row["key"] for row in ROWS} == {key for key in Options.asked if key.startswith("com.docker.network.")}
