"""What a client sees of an answer beside its contents, and what it asks wrongly, is as Docker's engine has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.apiserver.omitting import without_empty
from shared.protocol import (
    BuildCachePruned,
    ContainerCreated,
    ContainerUpdated,
    Event,
    EventActor,
    HostConfig,
    ImageSummary,
    ListContainers,
    NetworkInspect,
    RestartPolicy,
    UpdateContainer,
)
from tests.unit.apiserver.test_routes import api, message


def test_the_reason_is_spelled_as_the_standard_has_it() -> None:
    """docker-py shows it to people: 404 Client Error … Not Found."""
    http, _ = api(create=ContainerCreated(id="f" * 64, warnings=[]), kill=lambda job: 1 / 0)
    assert http.get("/nowhere").status == "404 Not Found"
    assert http.post("/containers/x/kill").status == "500 Internal Server Error"
    assert http.post("/containers/create", json={"Image": "x"}).status == "201 Created"


@pytest.mark.parametrize(("path", "status"), [("start", "204 No Content"), ("resize?h=1&w=1", "200 OK")])
def test_nothing_is_of_no_type(path: str, status: str) -> None:
    http, _ = api(start=None, container_resize=None)
    answer = http.post(f"/containers/x/{path}")
    assert (answer.status, answer.data) == (status, b"")
    assert "Content-Type" not in answer.headers


@pytest.mark.parametrize("wrong", [[], "", 0, False])
def test_what_is_no_object_is_not_an_empty_one(wrong: Any) -> None:
    http, bus = api(create=ContainerCreated(id="f" * 64, warnings=[]), container_update=ContainerUpdated(warnings=[]))
    for body in ({"HostConfig": wrong}, {"NetworkingConfig": wrong}):
        assert "Expected `object`" in message(http.post("/containers/create", json={"Image": "x", **body}))
    assert "Expected `object`" in message(http.post("/containers/x/update", json={"RestartPolicy": wrong}))
    assert not bus.calls
    nothing = {"Image": "x", "HostConfig": None, "NetworkingConfig": None}
    assert http.post("/containers/create", json=nothing).status_code == 201


def test_null_for_a_filters_values_is_gos_empty_map() -> None:
    http, bus = api(containers=[])
    assert http.get("/containers/json", query_string={"filters": '{"label":null}'}).status_code == 200
    assert bus.calls == [ListContainers(filters={"label": []})]


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        ({"name": ["x"]}, "invalid filter 'name'"),
        ({"enabled": ["perhaps"]}, "invalid filter 'enabled=[perhaps]'"),
        ({"enabled": ["true", "0"]}, "invalid filter 'enabled=[true 0]'"),
    ],
)
def test_plugins_are_filtered_although_there_are_none(filters: dict[str, Any], why: str) -> None:
    http, _ = api()
    assert message(http.get("/plugins", query_string={"filters": json.dumps(filters)})) == why
    known = json.dumps({"enabled": {"true": True}, "capability": ["volumedriver"]})
    assert http.get("/plugins", query_string={"filters": known}).json == []


def test_a_network_of_another_scope_is_not_found() -> None:
    network = NetworkInspect(name="bridge", id="a" * 64, created="", scope="local", driver="bridge")
    http, _ = api(network_inspect=network)
    assert http.get("/networks/bridge?scope=local").status_code == 200
    answer = http.get("/networks/bridge?scope=swarm")
    assert (answer.status_code, message(answer)) == (404, "network bridge not found")


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
@pytest.mark.parametrize("body", [{}, {"Container": ""}])
def test_a_network_is_connected_to_something(verb: str, body: dict[str, str]) -> None:
    http, bus = api()
    answer = http.post(f"/networks/net/{verb}", json=body)
    assert (answer.status_code, message(answer)) == (400, "invalid container name or ID: value is empty")
    assert not bus.calls


def test_of_two_times_the_wrong_order_is_told() -> None:
    http, _ = api()
    said = message(http.get("/events?since=5.5&until=3"))
    assert said == "`since` time (5.5) cannot be after `until` time (3)"


def test_a_prune_is_of_nothing_and_a_name_may_be_its_beginning() -> None:
    def about(seq: int, kind: str, action: str, actor: str, **attributes: str) -> Event:
        made = EventActor(id=actor, attributes=attributes)
        return Event(seq=seq, type=kind, action=action, actor=made, time=1, time_nano=10**9)

    told = [
        about(1, "container", "prune", "", reclaimed="0"),
        about(2, "container", "die", "c" * 64, name="web-1"),
        about(3, "network", "connect", "n" * 64, name="net", container="c" * 64),
    ]
    http, _ = api(events=lambda job: [event for event in told if event.seq > job.after])
    query = {"since": "1", "until": "2"}
    first, second, _ = (json.loads(line) for line in http.get("/events", query_string=query).data.splitlines())
    assert {"status", "id", "from"} & set(first) == {"status"}
    for name, found in (("web", [second]), ("web-1", [second]), ("c" * 64, [second]), ("eb", [])):
        filters = json.dumps({"container": [name]})
        lines = http.get("/events", query_string={**query, "filters": filters}).data.splitlines()
        assert [json.loads(line) for line in lines] == found


def test_a_filter_of_events_that_nobody_knows_says_nothing() -> None:
    told = Event(seq=1, type="container", action="die", actor=EventActor(id="c", attributes={}), time=1, time_nano=1)
    http, _ = api(events=lambda job: [told] if job.after < 1 else [])
    query = {"since": "1", "until": "2", "filters": '{"colour":["red"]}'}
    answer = http.get("/events", query_string=query)
    assert (answer.status_code, json.loads(answer.data)["Action"]) == (200, "die")


def test_how_much_of_a_build_cache_may_stay() -> None:
    http, bus = api(build_cache_prune=BuildCachePruned(caches_deleted=[], space_reclaimed=0))
    for query in ("keep-storage=5", "reserved-space=5", "max-used-space=5&reserved-space=3"):
        assert http.post(f"/build/prune?{query}").status_code == 200
    assert http.post("/v1.47/build/prune?max-used-space=5&min-free-space=1").status_code == 200
    assert [job.keep_storage for job in bus.calls] == [5, 5, 5, 0]  # type: ignore[attr-defined]
    refused = http.post("/build/prune?min-free-space=1")
    assert (refused.status_code, message(refused)) == (501, "min-free-space: not implemented")


def test_an_image_of_one_platform_or_all_manifests() -> None:
    http, bus = api()
    query = {"manifests": "1", "platform": '{"os":"linux","architecture":"amd64"}'}
    answer = http.get("/images/busybox/json", query_string=query)
    said = "conflicting options: manifests and platform options cannot both be set"
    assert (answer.status_code, message(answer)) == (400, said)
    assert message(http.delete("/images/%20")) == "image name cannot be blank"
    assert not bus.calls


def test_an_image_with_a_tag_alone_had_no_digest_of_none() -> None:
    def shown(version: str, **names: list[str]) -> tuple[Any, Any]:
        image = ImageSummary(
            id="sha256:1", parent_id="", created=0, size=1, shared_size=-1, labels=None, containers=-1, **names
        )
        (found,) = api(images=[image])[0].get(f"/v{version}/images/json").json
        return found["RepoTags"], found["RepoDigests"]

    assert shown("1.42", repo_tags=["a:1"], repo_digests=[]) == (["a:1"], [])
    assert shown("1.42", repo_tags=[], repo_digests=["a@sha256:2"]) == ([], ["a@sha256:2"])
    assert shown("1.42", repo_tags=[], repo_digests=[]) == (["<none>:<none>"], ["<none>@<none>"])
    assert shown("1.43", repo_tags=[], repo_digests=[]) == ([], [])


def test_what_moby_leaves_out_when_it_is_empty_is_left_out() -> None:
    config = {"StopTimeout": 0, "Healthcheck": {"Test": ["CMD", "true"], "Retries": 0}, "Shell": None, "Env": None}
    shown = without_empty({"Config": config, "HostConfig": {"Init": False, "Tmpfs": {}, "Binds": None}, "Name": ""})
    assert shown == {
        "Config": {"StopTimeout": 0, "Healthcheck": {"Test": ["CMD", "true"]}, "Env": None},
        "HostConfig": {"Init": False, "Binds": None},
        "Name": "",
    }
    assert without_empty({"Config": {"Healthcheck": {}, "StopTimeout": None}}) == {"Config": {"Healthcheck": {}}}


@pytest.mark.parametrize("name", ["RestartPolicy", "restartPolicy", "restartpolicy"])
def test_an_update_is_read_whatever_its_case(name: str) -> None:
    http, bus = api(container_update=ContainerUpdated(warnings=[]))
    assert http.post("/containers/x/update", json={name: {"name": "always"}, "memory": 5}).status_code == 200
    (job,) = bus.calls
    assert isinstance(job, UpdateContainer)
    assert (job.restart_policy, job.host_config) == (RestartPolicy(name="always"), HostConfig(memory=5))


@pytest.mark.parametrize("body", [{}, {"HostConfig": {"Memory": 5}}, {"networkingConfig": {}, "hostConfig": {}}])
def test_a_container_is_made_of_a_config(body: dict[str, Any]) -> None:
    """Some ask this to see whether they may create: the words are moby's."""
    http, bus = api()
    answer = http.post("/containers/create", json=body)
    said = "config cannot be empty in order to create a container"
    assert (answer.status_code, message(answer)) == (400, said)
    assert not bus.calls
