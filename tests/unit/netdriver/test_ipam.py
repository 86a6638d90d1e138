from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.netdriver.ipam import POOLS, Pool, choose_subnet, first_free
from shared.protocol import DockyardError, InvalidArgument, Unavailable


@given(st.integers(24, 30), st.lists(st.one_of(st.just("allocate"), st.integers(0, 300)), max_size=400))
def test_an_address_is_never_given_twice(prefix_len: int, steps: list[str | int]) -> None:
    gateway = IPv4Interface(f"10.9.8.1/{prefix_len}")
    forbidden = {gateway.ip, gateway.network.network_address, gateway.network.broadcast_address}
    pool, held = Pool(gateway), []
    for step in steps:
        if step == "allocate":
            try:
                address = pool.allocate()
            except DockyardError as error:
                assert not isinstance(error, Unavailable)  # who hears that asks again, and again
                assert len(held) == gateway.network.num_addresses - 3
                continue
            assert address in gateway.network
            assert address not in forbidden
            assert address not in held
            held.append(address)
        elif held:
            pool.release(held.pop(int(step) % len(held)))


def test_a_released_address_rests_until_all_others_had_their_turn() -> None:
    pool = Pool(IPv4Interface("10.9.8.1/29"))
    first = pool.allocate()
    pool.release(first)
    following = [pool.allocate() for _ in range(5)]
    assert first not in following[:4]
    assert following[4] == first
    with pytest.raises(DockyardError, match="no available IPv4 addresses in"):
        pool.allocate()


def test_a_claimed_address_is_not_given_and_the_search_goes_on_behind_it() -> None:
    pool = Pool(IPv4Interface("10.9.8.1/24"))
    pool.claim(IPv4Address("10.9.8.7"))
    pool.claim(IPv4Address("192.168.1.1"))  # of another subnet
    assert pool.allocate() == IPv4Address("10.9.8.8")


def test_what_is_set_aside_is_not_given_and_moves_nothing() -> None:
    pool = Pool(IPv4Interface("10.9.8.1/29"))
    pool.set_aside(["10.9.8.3", "192.168.1.1", "fd00::1"])
    assert [str(pool.allocate()) for _ in range(4)] == ["10.9.8.2", "10.9.8.4", "10.9.8.5", "10.9.8.6"]


def test_releasing_the_gateway_or_a_free_address_changes_nothing() -> None:
    pool = Pool(IPv4Interface("10.9.8.1/30"))
    pool.release(IPv4Address("10.9.8.1"))
    pool.release(IPv4Address("10.9.8.2"))
    assert pool.allocate() == IPv4Address("10.9.8.2")
    with pytest.raises(DockyardError, match="no available IPv4 addresses in"):
        pool.allocate()


def test_the_first_pool_that_overlaps_nothing_is_chosen() -> None:
    assert choose_subnet([]) == IPv4Interface("172.30.0.1/16")
    taken = [IPv4Network("172.30.5.0/24"), IPv4Network("172.16.0.0/12")]
    assert choose_subnet(taken) == IPv4Interface("10.30.0.1/16")
    with pytest.raises(Unavailable):
        choose_subnet(pool.network for pool in POOLS)


@given(st.integers(20, 30), st.integers(0, 1 << 20))
def test_a_part_gives_each_of_its_addresses_once_and_no_other(prefix_len: int, start: int) -> None:
    gateway = IPv4Interface("10.9.8.1/20")
    size = 1 << (32 - prefix_len)
    whole = gateway.network
    first = int(whole.network_address) + start * size % whole.num_addresses
    part = IPv4Network((first, prefix_len))
    pool = Pool(gateway, part)
    pool.claim(IPv4Address("10.9.1.77"))  # a lease from before, inside or outside
    forbidden = {gateway.ip, whole.network_address, whole.broadcast_address, IPv4Address("10.9.1.77")}
    wanted = set(part) - forbidden
    assert {pool.allocate() for _ in range(len(wanted))} == wanted
    with pytest.raises(DockyardError, match="no available IPv4 addresses in"):
        pool.allocate()


networks = st.builds(
    lambda address, length: IPv4Network((address & ~((1 << (32 - length)) - 1), length)),
    st.integers(int(IPv4Address("10.0.0.0")), int(IPv4Address("10.3.255.255"))),
    st.integers(14, 26),
)


@given(st.lists(networks, max_size=12), st.integers(16, 24))
def test_a_subnet_of_the_pools_overlaps_nothing_taken_and_is_the_first_such(
    taken: list[IPv4Network], size: int
) -> None:
    pools = (f"10.1.0.0/16/{size}", f"10.2.0.0/17/{max(size, 17)}")
    bases = [IPv4Network("10.1.0.0/16"), IPv4Network("10.2.0.0/17")]
    subnets = [*bases[0].subnets(new_prefix=size), *bases[1].subnets(new_prefix=max(size, 17))]
    free = [subnet for subnet in subnets if not any(subnet.overlaps(network) for network in taken)]
    if free:
        assert first_free(pools, taken) == free[0]
    else:
        with pytest.raises(InvalidArgument, match="all predefined address pools have been fully subnetted"):
            first_free(pools, taken)


@given(st.lists(st.one_of(st.none(), st.integers(0, 17)), max_size=40))
def test_no_address_is_given_twice_whether_asked_for_or_not(wanted: list[int | None]) -> None:
    subnet = IPv4Network("10.9.0.0/28")
    pool = Pool(IPv4Interface("10.9.0.1/28"))
    given_out: set[IPv4Address] = set()
    for offset in wanted:
        asked = None if offset is None else subnet.network_address + offset
        try:
            address = pool.allocate(asked)
        except DockyardError:
            continue
        assert asked in (None, address)
        assert address not in given_out
        assert address in set(subnet.hosts()) - {IPv4Address("10.9.0.1")}
        given_out.add(address)
