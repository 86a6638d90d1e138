from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.netdriver.ifnames import choose, index_of
from shared.protocol import InvalidArgument

names = st.from_regex(r"[a-z0-9][a-zA-Z0-9_.-]{0,14}", fullmatch=True)


@pytest.mark.parametrize(
    ("wanted", "prefix", "taken", "name"),
    [
        ("", "", [], "eth0"),
        ("", "eth", ["eth0", "eth2"], "eth1"),
        ("", "lan", ["eth0"], "lan0"),
        ("", "eth1", ["eth10"], "eth11"),
        ("front", "eth", ["eth0"], "front"),
    ],
)
def test_a_name(wanted: str, prefix: str, taken: list[str], name: str) -> None:
    assert choose(wanted, prefix, taken) == name


@pytest.mark.parametrize("wanted", ["lo", "all", "a/b", "..", "x" * 16, "eth0", "a b"])
def test_no_name(wanted: str) -> None:
    with pytest.raises(InvalidArgument):
        choose(wanted, "eth", ["eth0"])


def test_the_indexes_of_eth0_and_so_on_stay_as_they_are() -> None:
    assert [index_of(name) for name in ("eth0", "eth1", "eth12")] == [100, 101, 112]


@given(st.lists(names, unique=True, max_size=4), st.sampled_from(["eth", "lan", "eth1", "0x"]))
def test_no_two_links_of_a_container_have_one_index(taken: list[str], prefix: str) -> None:
    name = choose("", prefix, taken)
    assert name not in taken
    assert 0 < index_of(name) < 1 << 31
    assert index_of(name) not in map(index_of, taken)
