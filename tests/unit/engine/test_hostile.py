"""What users write into requests neither holds the engine, nor becomes a line of a file, nor ends an argument early."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.lifecycle.stop import parse_signal
from services.engine.patterns import is_word, matches
from shared.protocol import (
    AwaitService,
    ContainerConfig,
    CreateContainer,
    CreateExec,
    CreateVolume,
    DeviceMapping,
    ExecConfig,
    HostConfig,
    InvalidArgument,
    ListContainers,
    ListVolumes,
    Ping,
    StartContainer,
)


def create(stack: Any, config: dict[str, Any], **host: Any) -> Any:
    job = CreateContainer(config=ContainerConfig(image="busybox", **config), host_config=HostConfig(**host))
    return stack.client.call(job)


LINES = {
    "hostname": ({"hostname": "a\n6.6.6.6 bank"}, {}),
    "hostname, blank": ({"hostname": "a b"}, {}),
    "domainname": ({"domainname": "a\n6.6.6.6 bank"}, {}),
    "add-host, name": ({}, {"extra_hosts": ["a\n6.6.6.6 bank:1.1.1.1"]}),
    "add-host, NUL": ({}, {"extra_hosts": ["a\0:1.1.1.1"]}),
    "add-host, zone": ({}, {"extra_hosts": ["a:fe80::1%a\n6.6.6.6\tbank"]}),
    "dns, zone": ({}, {"dns": ["fe80::1%a\nnameserver 6.6.6.6"]}),
    "dns": ({}, {"dns": ["1.1.1.1\nnameserver 6.6.6.6"]}),
    "dns-search": ({}, {"dns_search": ["a\nnameserver 6.6.6.6"]}),
    "dns-option": ({}, {"dns_options": ["ndots:1\nnameserver 6.6.6.6"]}),
    "link": ({}, {"links": ["db:a\n6.6.6.6 bank"]}),
    "link, blank": ({}, {"links": ["db:a bank"]}),
}


@pytest.mark.parametrize("name", LINES)
def test_nothing_writes_lines_of_hosts_and_resolv_conf(stack: Any, name: str) -> None:
    stack.client.call(AwaitService(service="engine"))
    db = CreateContainer(name="db", config=ContainerConfig(image="busybox"))
    stack.client.call(db)
    config, host = LINES[name]
    with pytest.raises(InvalidArgument):
        create(stack, config, **host)


@pytest.mark.parametrize(
    "config",
    [
        {"cmd": ["sh", "-c", "a\0b"]},
        {"entrypoint": ["a\0b"]},
        {"env": ["A=\0"]},
        {"env": ["A\0B=1"]},
        {"user": "0\0"},
        {"working_dir": "/\0"},
    ],
)
def test_a_nul_is_in_nothing_that_a_process_is_given(stack: Any, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="NUL"):
        create(stack, config)
    made = create(stack, {})
    stack.client.call(StartContainer(container=made.id))
    exec_config = {"cmd": ["true"], **{key: value for key, value in config.items() if key != "entrypoint"}}
    if "entrypoint" not in config:
        with pytest.raises(InvalidArgument, match="NUL"):
            stack.client.call(CreateExec(container=made.id, config=ExecConfig(**exec_config)))


@pytest.mark.parametrize(
    "host",
    [
        {"cgroup_parent": "a\0"},
        {"sysctls": {"net.core.somaxconn": "1\0"}},
        {"tmpfs": {"/x": "size=1m,mode=7\0"}},
        {"devices": [DeviceMapping(path_on_host="/dev/null\0", path_in_container="/dev/x")]},
        {"group_add": ["0\0"]},
        {"annotations": {"a": "b\0"}},
    ],
)
def test_a_nul_is_in_nothing_that_a_host_is_given(stack: Any, host: dict[str, Any]) -> None:
    """What ends at it would be another cgroup, device or value than the one that was checked."""
    with pytest.raises(InvalidArgument, match=r"invalid HostConfig: '.*\\x00' has a NUL in it"):
        create(stack, {}, **host)


@pytest.mark.parametrize("expression", ["^/?(a+)+$", "(a|aa)+$", "(.*)*b"])
def test_no_expression_holds_the_engine(stack: Any, expression: str) -> None:
    """Python's `re` would take longer than the universe is old."""
    stack.client.call(CreateContainer(name="a" * 60 + "-", config=ContainerConfig(image="busybox")))
    stack.client.call(CreateVolume(name="a" * 60 + "-"))
    before = time.monotonic()
    stack.client.call(ListContainers(all=True, filters={"name": [expression]}))
    stack.client.call(ListVolumes(filters={"name": [expression]}))
    assert stack.client.call(Ping()) == "OK"
    assert time.monotonic() - before < 2


def test_no_range_of_ports_holds_the_engine(stack: Any) -> None:
    made = create(stack, {"exposed_ports": {"80/tcp": {}, "53/udp": {}}})
    stack.client.call(StartContainer(container=made.id))

    def found(**filters: list[str]) -> int:
        return len(stack.client.call(ListContainers(all=True, filters=filters)))

    assert found(expose=["0-65535"]) == 1
    assert (found(expose=["80"]), found(expose=["79-81/tcp"]), found(expose=["53/udp"])) == (1, 1, 1)
    assert (found(expose=["81"]), found(expose=["53"]), found(publish=["80"])) == (0, 0, 0)
    for value in ("0-99999", "90-70", "0-999999999999", "²", "80-²", "", "-", "80/tcp/", "1-2-3"):
        with pytest.raises(InvalidArgument, match="invalid port"):
            found(expose=[value])
    for value in ("²", "--1", "", "9" * 5000):
        with pytest.raises(InvalidArgument, match="invalid filter 'exited="):
            found(exited=[value])


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [("web", "my-web-1", True), ("^web$", "web1", False), ("(", "a", False), ("(", "(", True), ("[0-9]+", "a1", True)],
)
def test_patterns_match_as_gos_do(pattern: str, name: str, found: bool) -> None:
    assert matches(pattern, name) is found


@given(st.text(), st.text(max_size=20))
def test_a_pattern_is_never_an_error(pattern: str, name: str) -> None:
    assert matches(name, name)
    matches(pattern, name)


@given(st.text())
def test_a_word_stays_one(text: str) -> None:
    if text and is_word(text):
        assert f"127.0.0.1\t{text}\n".split() == ["127.0.0.1", text]
        assert len(text.splitlines()) == 1


@given(st.text())
def test_a_signal_is_a_number_or_refused(text: str) -> None:
    try:
        assert 0 < parse_signal(text) <= 64
    except InvalidArgument:
        return


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("hup", 1),
        ("9", 9),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmax-1", 63),
        ("SIGRTMAX-14", 50),
        ("RTMAX", 64),
    ],
)
def test_signals_are_those_that_docker_names(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text", ["²", "9" * 5000, "0", "65", "-1", "RTMIN+31", "RTMAX-31", "RTMAX+1", "SIGRTMIN+²", "\0", ""]
)
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid signal"):
        parse_signal(text)


@pytest.mark.parametrize("name", ["a" * 256, "../x", "a/b", "ab\n", "a\0b", ".", "..", "-x", "ab\u2028"])
def test_what_is_no_name_of_a_volume(stack: Any, name: str) -> None:
    with pytest.raises(InvalidArgument):
        stack.client.call(CreateVolume(name=name))
    with pytest.raises(InvalidArgument):
        create(stack, {}, binds=[f"{name}:/data"])


def test_the_longest_name_of_a_volume(stack: Any) -> None:
    assert stack.client.call(CreateVolume(name="a" * 255)).name == "a" * 255


@pytest.mark.parametrize("name", ["../x", "a/b", "ab\n", "a\0b", "..", "-x", "a", "//x", "ab\u2028", "ab "])
def test_what_is_no_name_of_a_container(stack: Any, name: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        stack.client.call(CreateContainer(name=name, config=ContainerConfig(image="busybox")))
