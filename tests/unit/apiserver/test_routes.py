"""Routes without a socket: Flask's test client, a bus that answers what it is told."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client as HttpClient
from werkzeug.wrappers import Response

from services.apiserver.app import create_app
from services.apiserver.errors import STATUS
from shared.bus.bus import FakeBus
from shared.protocol import (
    ERRORS,
    Conflict,
    ContainerCreated,
    ContainerLogs,
    CreateContainer,
    KillContainer,
    ListContainers,
    LogStream,
    NotFound,
    NotModified,
    RemoveContainer,
    StartContainer,
    StopContainer,
    from_code,
)


def api(**answers: Any) -> tuple[HttpClient, FakeBus]:
    latch = threading.Event()
    latch.set()
    bus = FakeBus(answers)
    return HttpClient(create_app(bus, bus, latch), Response), bus


def message(answer: Any) -> str:
    assert answer.headers["Content-Type"] == "application/json"
    return str(json.loads(answer.data)["message"])


def test_every_error_has_a_status_and_no_status_is_for_nothing() -> None:
    assert set(STATUS) == set(ERRORS)


@pytest.mark.parametrize("code", sorted(set(ERRORS) - {"not_modified", "unavailable"}))
def test_errors_are_json_with_exactly_that_content_type(code: str) -> None:
    http, _ = api(pause=from_code(code, "because"))
    answer = http.post("/containers/x/pause")
    assert answer.status_code == STATUS[code]
    assert message(answer) == "because"
    assert answer.headers["Api-Version"] == "1.51"


def test_not_modified_has_no_body() -> None:
    http, _ = api(start=NotModified("it runs"))
    answer = http.post("/v1.41/containers/x/start")
    assert (answer.status_code, answer.data) == (304, b"")


def test_unknown_routes_and_wrong_methods_are_404() -> None:
    http, _ = api()
    for answer in (http.get("/nowhere"), http.put("/version"), http.get("/v1.40/containers/x/kill")):
        assert answer.status_code == 404
        assert message(answer) == "page not found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/json/"), ("GET", "/v1.51/version/"), ("POST", "/containers/x/start/"),
        ("HEAD", "/containers/json"), ("HEAD", "/version"), ("HEAD", "/containers/x/json"), ("HEAD", "/images/json"),
    ],
)  # fmt: skip
def test_a_path_has_no_slash_at_its_end_and_a_get_no_head(method: str, path: str) -> None:
    http, bus = api(containers=[], version={}, start=None, images=[])
    assert http.open(path, method=method).status_code == 404
    assert not bus.calls


def test_but_networks_may_have_the_slash() -> None:
    http, _ = api(networks=[])
    assert [http.get(path).status_code for path in ("/networks", "/networks/")] == [200, 200]


def test_a_container_may_be_named_by_the_alias_that_another_has_for_it() -> None:
    http, bus = api(start=None)
    assert http.post("/containers/holder/alias/start").status_code == 204
    assert bus.calls == [StartContainer(container="holder/alias")]


def test_a_bug_is_a_500_without_its_traceback() -> None:
    http, _ = api(kill=lambda job: 1 / 0)
    answer = http.post("/containers/x/kill")
    assert answer.status_code == 500
    assert "division" not in message(answer)


@pytest.mark.parametrize(
    ("version", "status", "text"),
    [
        ("1.24", 200, ""),
        ("1.51", 200, ""),
        ("1.23", 400, "client version 1.23 is too old. Minimum supported API version is 1.24"),
        ("1.52", 400, "client version 1.52 is too new. Maximum supported API version is 1.51"),
    ],
)
def test_versions(version: str, status: int, text: str) -> None:
    http, _ = api()
    answer = http.get(f"/v{version}/_ping")
    assert answer.status_code == status
    assert text in answer.text


def test_ping_says_what_clients_negotiate_by() -> None:
    http, _ = api()
    answer = http.get("/_ping")
    assert (answer.data, answer.headers["Content-Type"]) == (b"OK", "text/plain; charset=utf-8")
    assert (answer.headers["Ostype"], answer.headers["Swarm"]) == ("linux", "inactive")
    assert http.head("/_ping").data == b""


def test_create_decodes_the_body_as_go_writes_it() -> None:
    http, bus = api(create=ContainerCreated(id="f" * 64, warnings=[]))
    body = {
        "Image": "busybox", "Cmd": "sh", "Entrypoint": None, "Healthcheck": None, "Env": ["A=b"], "Unknown": 1,
        "HostConfig": {"Memory": 1 << 20, "Binds": None, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}},
        "NetworkingConfig": {"EndpointsConfig": {"bridge": None}},
    }  # fmt: skip
    answer = http.post("/containers/create?name=web", json=body)
    assert (answer.status_code, answer.json) == (201, {"Id": "f" * 64, "Warnings": []})
    (job,) = bus.calls
    assert isinstance(job, CreateContainer)
    assert (job.name, job.config.cmd, job.config.env, job.host_config.memory) == ("web", "sh", ["A=b"], 1 << 20)


@pytest.mark.parametrize(
    ("data", "content_type", "text"),
    [
        (b"{", "application/json", "invalid JSON"),
        (b"{} {}", "application/json", "unexpected content after JSON"),
        (b"[]", "application/json", "an object is wanted"),
        (b"{}", "text/plain", "must be 'application/json'"),
        (b'{"Image": 7}', "application/json", "$.Image"),
        (b'{"Image": "x", "HostConfig": {"Memory": "much"}}', "application/json", "$.Memory"),
        (b"[" * 50_000, "application/json", "invalid JSON"),
        (b"\xff", "application/json", "invalid JSON"),
    ],
)
def test_bad_bodies_are_400_and_say_why(data: bytes, content_type: str, text: str) -> None:
    http, bus = api()
    answer = http.post("/containers/create", data=data, content_type=content_type)
    assert answer.status_code == 400
    assert text in message(answer)
    assert not bus.calls


@pytest.mark.parametrize(
    "url",
    [
        "/containers/json?limit=x",
        "/containers/json?filters={",
        '/containers/json?filters={"a":1}',
        '/containers/json?filters=["a"]',
        "/events?since=yesterday",
        "/events?since=9&until=8",
        "/containers/web/logs?stdout=1&since=yesterday",
        "/containers/web/logs?stdout=1&until=1.2.3",
    ],
)
def test_bad_queries_are_400(url: str) -> None:
    http, _ = api()
    assert http.get(url).status_code == 400


def test_filters_come_in_two_forms_and_booleans_as_docker_reads_them() -> None:
    http, bus = api(containers=[])
    http.get('/containers/json?all=yes&filters={"label":["a=b"]}')
    http.get('/containers/json?all=False&filters={"label":{"a=b":true,"c":false}}')
    assert [(job.all, job.filters) for job in bus.calls if isinstance(job, ListContainers)] == [
        (True, {"label": ["a=b"]}),
        (False, {"label": ["a=b"]}),
    ]


def test_security_options_of_a_build_are_words_and_not_json() -> None:
    http, bus = api(build=NotFound("as far as it comes"))
    http.post("/build?securityopt=no-new-privileges&securityopt=seccomp=unconfined", data=b"")
    assert bus.calls[0].securityopt == ["no-new-privileges", "seccomp=unconfined"]


def test_null_in_a_query_is_what_go_has_for_nothing() -> None:
    http, bus = api(build=NotFound("as far as it comes"), containers=[])
    # as the command of 20.10 asks
    nothing = "&".join(f"{name}=null" for name in ("buildargs", "labels", "cachefrom", "ulimits", "securityopt"))
    assert message(http.post(f"/v1.41/build?{nothing}", data=b"")) == "as far as it comes"
    assert http.get("/containers/json?filters=null").status_code == 200
    building, listing = bus.calls
    assert (building.ulimits, building.buildargs, listing.filters) == ([], {}, {})


def test_a_log_is_asked_for_to_the_nanosecond_and_read_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "container.log"
    path.write_text("2026-11-24T10:58:11.630985409+00:00 stdout F hello\n")
    stream = LogStream(container="1f2e", tty=False, driver="local", path=str(path), generation=1, running=False)
    http, bus = api(logs=stream)
    answer = http.get("/containers/web/logs?stdout=1&since=1795517891.630985409&tail=all&follow=1")
    assert answer.data == b"\x01\0\0\0\0\0\0\x06hello\n"
    assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    assert http.get("/containers/web/logs?stdout=1&since=1795517891.630985410999&tail=7&until=-1").data == b""
    wanted = {"container": "web", "stdout": True, "stderr": False}
    assert bus.calls == [
        ContainerLogs(**wanted, follow=True, since=1_795_517_891_630_985_409),
        ContainerLogs(**wanted, tail=7, since=1_795_517_891_630_985_410, until=1),
    ]


def test_verbs_become_their_jobs() -> None:
    http, bus = api()
    http.post("/containers/web/start", data=b"{}")
    http.post("/containers/web/stop?t=3&signal=SIGINT")
    http.post("/containers/web/kill?signal=HUP")
    http.delete("/containers/web?force=1&v=1")
    start, *others = bus.calls
    assert isinstance(start, StartContainer)
    assert start.container == "web"
    assert others == [
        StopContainer(container="web", timeout=3.0, signal="SIGINT"),
        KillContainer(container="web", signal="HUP"),
        RemoveContainer(container="web", force=True, volumes=True),
    ]


def test_start_takes_no_body() -> None:
    http, bus = api()
    assert http.post("/containers/web/start", data=b'{"Binds": []}').status_code == 400
    assert not bus.calls


def test_names_of_images_may_have_slashes() -> None:
    http, bus = api(image_inspect=NotFound("No such image: a/b/c:1"))
    assert message(http.get("/v1.51/images/a/b/c:1/json")) == "No such image: a/b/c:1"
    assert bus.calls[0].image == "a/b/c:1"  # type: ignore[attr-defined]


def test_wait_that_cannot_begin_is_an_http_error() -> None:
    http, _ = api(wait=NotFound("No such container: x"))
    answer = http.post("/containers/x/wait")
    assert (answer.status_code, message(answer)) == (404, "No such container: x")


def test_a_conflict_keeps_its_words() -> None:
    http, _ = api(rename=Conflict("taken"))
    assert message(http.post("/containers/x/rename?name=y")) == "taken"


def test_an_engine_that_is_no_swarm_manager() -> None:
    http, _ = api()
    assert "This node is not a swarm manager" in message(http.get("/swarm"))
    assert http.get("/plugins").json == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/containers/web/resize", "invalid value for h: '' is not an integer"),
        ("/containers/web/resize?h=10", "invalid value for w: '' is not an integer"),
        ("/exec/web/resize?w=10", "invalid value for h: '' is not an integer"),
        ("/commit", "invalid container name or ID: value is empty"),
    ],
)
def test_what_must_be_given_is_missed(path: str, said: str) -> None:
    http, bus = api()
    answer = http.post(path)
    assert (answer.status_code, bus.calls) == (400, [])
    assert said in message(answer)


@pytest.mark.parametrize(("host", "runtime"), [({}, "runc"), ({"Runtime": "crun"}, "crun")])
def test_a_runtime_beside_the_host_config_is_heard(host: dict[str, str], runtime: str) -> None:
    http, bus = api(create=ContainerCreated(id="f" * 64, warnings=[]))
    assert (
        http.post("/containers/create", json={"Image": "x", "Runtime": "runc", "HostConfig": host}).status_code == 201
    )
    (job,) = bus.calls
    assert isinstance(job, CreateContainer)
    assert job.host_config.runtime == runtime
