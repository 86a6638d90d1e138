"""``bridge = none``: there is no default bridge, and nothing else is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from services.netdriver.checking import check
from shared.protocol import InvalidArgument
from shared.runtime.config import Config
from tests.unit.netdriver.rig import (
    HOST_ADDRESS,
    WORLD_ADDRESS,
    container,
    die,
    fetch,
    id_of,
    ip,
    join,
    make,
    network,
    pings,
    server,
    shell,
    want,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def tables() -> set[str]:
    return {line.split()[2] for line in shell("nft list tables").splitlines()}


def test_there_is_no_default_bridge(run: Path) -> None:
    driver = make(run, bridge="none")
    assert driver.init({}).name == "none"
    assert "bridge" not in ip("-o -d link")
    assert driver.allocate(want(1, mode="none")).mode == "none"
    for mode in ("bridge", "host", "nonsense"):
        with pytest.raises(InvalidArgument):
            driver.allocate(want(1, mode=mode))


def test_networks_of_users_are_made_and_come_back(run: Path) -> None:
    driver = make(run, bridge="none")
    driver.init({})
    made = network(driver, "app")
    one = join(driver, 1, "app", ports=want(1, tcp80="8080").ports)
    assert pings(one.netns, WORLD_ADDRESS)
    with server(one, "served"):
        assert fetch(HOST_ADDRESS, 8080) == fetch("127.0.0.1", 8080) == "served"
        die(driver)
        shell("nft flush ruleset")
        driver = make(run, bridge="none")
        assert driver.init({container(1): 1}, [made]).name == "none"
        assert fetch("127.0.0.1", 8080) == "served"


def test_two_stacks_without_one_are_not_in_each_others_way(run: Path) -> None:
    names = []
    for name in ("a", "b"):
        (run / name).mkdir()
        driver = make(run / name, bridge="none")
        driver.init({})
        names.append(driver.firewall.table)
    assert tables() == set(names)
    assert len(set(names)) == 2


def test_containers_on_the_bridge_keep_it(run: Path) -> None:
    driver = make(run)
    driver.init({})
    one = driver.allocate(want(1))
    die(driver)
    settled = check(Config(run=run, bridge="none"))
    assert settled.bridge == "dockyard0"
    driver = make(run, bridge=settled.bridge)
    assert driver.init({container(1): 1}).name == "dockyard0"
    assert pings(one.netns, WORLD_ADDRESS)
    driver.release(container(1), None)
    assert check(Config(run=run, bridge="none")).bridge == "none"


def test_a_table_of_another_name_goes_with_what_it_had_and_leaves_the_operators_rules(run: Path) -> None:
    driver = make(run)
    driver.init({})
    made = network(driver, "app")
    one = join(driver, 1, "app", ports=want(1, tcp80="8080").ports)
    subprocess.run(["nft", "add rule inet dockyard_dockyard0 operator tcp dport 7 drop"], check=True)
    die(driver)
    for bridge in ("none", "dockyard1"):
        driver = make(run, bridge=bridge)
        driver.init({container(1): 1}, [made])
        table = driver.firewall.table
        assert tables() == {table}
        assert "tcp dport 7 drop" in shell(f"nft list chain inet {table} operator")
        with server(one, "served"):
            assert fetch("127.0.0.1", 8080) == "served"
        die(driver)
    assert id_of("app") == made.id
