"""`dockyard job`: words on a command line become typed jobs, or a message that says why not."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import pytest

from services.ctl import busybox
from services.ctl.inject import build_body, build_job, inject_foreign
from shared.protocol import (
    CreateContainer,
    InvalidArgument,
    JobNotFound,
    KillContainer,
    ListContainers,
    SaveImages,
    StopContainer,
)


def test_words_fill_the_fields_in_order() -> None:
    assert build_job("kill", ["web", "SIGTERM"], []) == KillContainer(container="web", signal="SIGTERM")
    assert build_job("kill", ["web"], []) == KillContainer(container="web")
    assert build_job("image_export", ["a", "b"], []) == SaveImages(images=["a", "b"])


def test_env_sets_fields_in_any_spelling() -> None:
    assert build_job("containers", [], ["all=1"]) == ListContainers(all=True)
    assert build_job("containers", [], ["ALL=true", 'filters={"label":["a"]}']) == ListContainers(
        all=True, filters={"label": ["a"]}
    )
    assert build_job("stop", ["7"], ["timeout=2.5"]) == StopContainer(container="7", timeout=2.5)


def test_env_finds_nested_fields_as_in_2014() -> None:
    job = build_job("create", ["web"], ["Image=busybox", 'Cmd=["echo","hi"]', "Memory=1048576", "Tty=1", "Hostname=7"])
    assert isinstance(job, CreateContainer)
    assert (job.name, job.config.image, job.config.cmd, job.config.tty) == ("web", "busybox", ["echo", "hi"], True)
    assert (job.config.hostname, job.host_config.memory) == ("7", 1 << 20)
    assert build_job("create", [], ["Env=A=1", "Entrypoint=sh"]).config.env == ["A=1"]  # type: ignore[attr-defined]
    assert build_job("create", [], ["Cmd=sh"]).config.cmd == "sh"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "args", "env", "text"),
    [
        ("kill", [], [], r"^usage: kill CONTAINER \[SIGNAL\]$"),
        ("kill", ["a", "b", "c"], [], r"usage: kill CONTAINER \[SIGNAL\]"),
        ("kill", ["a"], ["speed=9"], "has no setting 'speed'"),
        ("kill", ["a"], ["speed"], "--env wants K=V"),
        ("containers", [], ["limit=many"], "Expected `int`"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, args: list[str], env: list[str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        build_job(name, args, env)


def test_an_unknown_job() -> None:
    with pytest.raises(JobNotFound):
        build_job("nonesuch", [], [])


def test_a_job_that_is_not_ours_takes_its_settings_as_json() -> None:
    assert build_body([], ["name=web", "count=3", 'tags=["a"]', "empty="]) == (
        b'{"name":"web","count":3,"tags":["a"],"empty":""}'
    )
    with pytest.raises(InvalidArgument, match="'web' means"):
        build_body(["web"], [])


def test_the_built_in_image_is_the_same_each_time() -> None:
    digests = {hashlib.sha256(busybox.archive()).hexdigest() for _ in range(2)}
    assert len(digests) == 1


class Foreign:
    """A client on which somebody offers ``greet``."""

    def call_raw(self, name: str, body: bytes, *, timeout: float | None = 60.0, on_status: Any = None) -> bytes:
        if name != "greet":
            raise JobNotFound(f"{name}: command not found")
        return b'{"greeting":"hello ' + body[9:-2] + b'"}'


def test_a_job_that_is_not_ours_is_run_too(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    client = cast(Any, Foreign())
    assert inject_foreign(client, "greet", build_body([], ["name=web"]), as_json=False) == 0
    assert inject_foreign(client, "great", build_body([], []), as_json=False) == 127
    shown = capsysbinary.readouterr()
    assert (shown.out, shown.err) == (b'{\n  "greeting": "hello web"\n}\n', b"great: command not found\n")
