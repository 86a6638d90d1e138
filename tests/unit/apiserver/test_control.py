"""pause, unpause, update, top and stats over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.apiserver.routes import control
from shared.protocol import (
    Conflict,
    ContainerStats,
    ContainerUpdated,
    CpuStats,
    CpuUsage,
    NotFound,
    Processes,
    RestartPolicy,
    SampleContainer,
    ThrottlingData,
    TopContainer,
    UpdateContainer,
)
from tests.unit.apiserver.test_routes import api, message

NEVER = "0001-01-01T00:00:00Z"


def samples(*reads: str) -> Any:
    """Answer one sample after the other; the n-th has used n nanoseconds; then the container is gone."""
    made = iter(
        ContainerStats(
            id="f" * 64,
            name="/web",
            read=read,
            cpu_stats=CpuStats(
                cpu_usage=CpuUsage(total_usage=number, usage_in_kernelmode=0, usage_in_usermode=0),
                throttling_data=ThrottlingData(),
            ),
        )
        for number, read in enumerate(reads, 1)
    )

    def answer(job: SampleContainer) -> Any:
        return next(made, NotFound("No such container"))

    return answer


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SAMPLE_INTERVAL", 0.0)


@pytest.mark.parametrize("verb", ["pause", "unpause"])
def test_pause_and_unpause(verb: str) -> None:
    http, bus = api()
    assert http.post(f"/containers/web/{verb}").status_code == 204
    assert [job.container for job in bus.calls] == ["web"]  # type: ignore[attr-defined]
    http, _ = api(**{verb: Conflict("Container f is not paused")})
    answer = http.post(f"/containers/web/{verb}")
    assert (answer.status_code, message(answer)) == (409, "Container f is not paused")


@pytest.mark.parametrize(
    ("body", "policy"),
    [
        ({}, None),
        ({"RestartPolicy": None}, None),
        ({"RestartPolicy": {"Name": "", "MaximumRetryCount": 0}}, None),
        ({"RestartPolicy": {"Name": "no"}}, RestartPolicy(name="no")),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}, RestartPolicy("on-failure", 2)),
    ],
)
def test_a_policy_without_a_name_is_none(body: dict[str, Any], policy: RestartPolicy | None) -> None:
    http, bus = api(container_update=ContainerUpdated(warnings=["careful"]))
    answer = http.post("/containers/web/update", json={"Memory": 5, "Devices": None, **body})
    assert (answer.status_code, answer.json) == (200, {"Warnings": ["careful"]})
    (job,) = bus.calls
    assert isinstance(job, UpdateContainer)
    assert (job.host_config.memory, job.restart_policy) == (5, policy)


@pytest.mark.parametrize("body", [{"RestartPolicy": "no"}, {"Memory": "much"}])
def test_a_bad_body_is_400(body: dict[str, Any]) -> None:
    http, bus = api()
    assert http.post("/containers/web/update", json=body).status_code == 400
    assert not bus.calls


def test_the_limit_of_pids_came_with_1_40() -> None:
    http, bus = api(container_update=ContainerUpdated(warnings=[]))
    http.post("/v1.39/containers/web/update", json={"PidsLimit": 7})
    (job,) = bus.calls
    assert isinstance(job, UpdateContainer)
    assert job.host_config.pids_limit is None


def test_top() -> None:
    http, bus = api(top=Processes(titles=["PID"], processes=[["7"]]))
    assert http.get("/containers/web/top").json == {"Titles": ["PID"], "Processes": [["7"]]}
    http.get("/containers/web/top?ps_args=aux%20f")
    assert bus.calls == [TopContainer(container="web"), TopContainer(container="web", ps_args="aux f")]


def test_a_stream_of_samples_knows_the_one_before_and_ends_with_the_container() -> None:
    http, _ = api(container_stats=samples("t1", "t2", "t3"))
    lines = [json.loads(line) for line in http.get("/containers/web/stats").data.splitlines()]
    assert [(line["read"], line["preread"]) for line in lines] == [("t1", NEVER), ("t2", "t1"), ("t3", "t2")]
    assert [line["precpu_stats"]["cpu_usage"]["total_usage"] for line in lines] == [0, 1, 2]


@pytest.mark.parametrize(
    ("query", "read", "total", "before"),
    [
        ("stream=0", "t2", 2, 1),
        ("stream=false&one-shot=0", "t2", 2, 1),
        ("stream=0&one-shot=1", "t1", 1, 0),
    ],
)
def test_one_sample_takes_two_unless_it_is_one_shot(query: str, read: str, total: int, before: int) -> None:
    http, _ = api(container_stats=samples("t1", "t2"))
    found = http.get(f"/containers/web/stats?{query}").json
    assert found is not None
    assert (found["read"], found["cpu_stats"]["cpu_usage"]["total_usage"]) == (read, total)
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] == before


@pytest.mark.parametrize("query", ["one-shot=1", "stream=1&one-shot=1"])
def test_a_stream_is_not_one_shot(query: str) -> None:
    http, _ = api(container_stats=samples("t1", "t2"))
    answer = http.get(f"/containers/web/stats?{query}")
    assert (answer.status_code, answer.json) == (400, {"message": "cannot have stream=true and one-shot=true"})


def test_one_shot_came_with_1_41() -> None:
    http, _ = api(container_stats=samples("t1", "t2"))
    found = http.get("/v1.40/containers/web/stats?stream=0&one-shot=1").json
    assert found is not None
    assert found["preread"] == "t1"


def test_what_does_not_run_is_zeros_at_once_and_what_is_unknown_404() -> None:
    http, bus = api(container_stats=samples(NEVER))
    found = http.get("/containers/web/stats?stream=0").json
    assert found is not None
    assert (found["name"], found["read"], len(bus.calls)) == ("/web", NEVER, 1)
    http, _ = api(container_stats=NotFound("No such container: web"))
    for query in ("stream=0", "stream=1"):
        assert http.get(f"/containers/web/stats?{query}").status_code == 404
