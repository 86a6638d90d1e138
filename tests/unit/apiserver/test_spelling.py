"""Spelling: names of members in any case, as Go decodes them."""

from __future__ import annotations

from services.apiserver.params import decode
from services.apiserver.spelling import member
from shared.protocol import ContainerConfig, CreateExec, ExecConfig, HostConfig, PortBinding
from tests.unit.apiserver.test_routes import api


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


def test_keys_of_maps_stay_as_they_are() -> None:
    config = decode({"labels": {"Image": "a", "image": "b"}, "ENTRYPOINT": ["sh"]}, ContainerConfig)
    assert (config.labels, config.entrypoint) == ({"Image": "a", "image": "b"}, ["sh"])


def test_the_exact_spelling_wins() -> None:
    assert decode({"USER": "x", "User": "y", "user": "z"}, ContainerConfig).user == "y"
    assert decode({"User": "y", "user": "z"}, ContainerConfig).user == "y"
    assert member({"hostconfig": 1, "HostConfig": 2}, "HostConfig") == 2
    assert member({"hostconfig": 1}, "HostConfig") == 1
    assert member({}, "HostConfig") is None
