"""Spelling: names of members in any case, as Go decodes them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.apiserver.params import decode
from services.apiserver.spelling import member, respelled
from shared.protocol import (
    ContainerConfig,
    ContainerCreated,
    CreateContainer,
    CreateExec,
    ExecConfig,
    HostConfig,
    InvalidArgument,
    PortBinding,
)
from tests.unit.apiserver.test_routes import api

NAMES = st.sampled_from(
    ["PortBindings", "portbindings", "Mounts", "MOUNTS", "type", "Target", "HostPort", "80/tcp", "x"]
)


def test_an_exec_of_docker_py_has_its_detach_keys() -> None:
    http, bus = api(execCreate={"Id": "e" * 64})
    http.post("/containers/x/exec", json={"Cmd": ["cat"], "detachKeys": "ctrl-a"})
    assert bus.calls == [CreateExec(container="x", config=ExecConfig(cmd=["cat"], detach_keys="ctrl-a"))]


def test_members_inside_members_too() -> None:
    host = decode(
        {"portbindings": {"80/tcp": [{"hostport": "8080"}]}, "MOUNTS": [{"type": "bind", "target": "/x"}]}, HostConfig
    )
    assert host.port_bindings == {"80/tcp": [PortBinding(host_port="8080")]}
    assert (host.mounts or [])[0].target == "/x"


def test_a_word_alone_is_a_list_of_one() -> None:
    http, bus = api(create=ContainerCreated(id="f" * 64, warnings=[]))
    http.post("/containers/create", json={"Shell": "sh", "hostconfig": {"capadd": "NET_ADMIN", "CapDrop": "ALL"}})
    (job,) = bus.calls
    assert isinstance(job, CreateContainer)
    host_config = job.host_config
    assert (job.config.shell, host_config.cap_add, host_config.cap_drop) == (["sh"], ["NET_ADMIN"], ["ALL"])


def test_keys_of_maps_stay_as_they_are() -> None:
    config = decode({"labels": {"Image": "a", "image": "b"}, "ENTRYPOINT": ["sh"]}, ContainerConfig)
    assert (config.labels, config.entrypoint) == ({"Image": "a", "image": "b"}, ["sh"])


def test_the_exact_spelling_wins() -> None:
    assert decode({"USER": "x", "User": "y", "user": "z"}, ContainerConfig).user == "y"
    assert decode({"User": "y", "user": "z"}, ContainerConfig).user == "y"
    assert member({"hostconfig": 1, "HostConfig": 2}, "HostConfig") == 2
    assert member({"hostconfig": 1}, "HostConfig") == 1
    assert member({}, "HostConfig") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_any_body_is_a_value_or_invalid(body: dict[str, Any]) -> None:
    try:
        decode(body, HostConfig)
    except InvalidArgument:
        return


@given(st.dictionaries(st.sampled_from(["Image", "User", "Cmd", "Labels", "Env", "Unknown"]), JSON, max_size=6))
def test_what_is_spelled_as_the_api_spells_it_stays_as_it_is(body: dict[str, Any]) -> None:
    assert respelled(body, ContainerConfig) == body


@given(st.data())
def test_case_does_not_matter(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["User", "WorkingDir", "Hostname", "StopSignal"]))
    spelled = "".join(data.draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in name)
    assert decode({spelled: "x"}, ContainerConfig) == decode({name: "x"}, ContainerConfig)
