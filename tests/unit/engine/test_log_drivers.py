"""Log drivers in the engine: what a container gets, what the execdriver is told, what a reader is told."""

from __future__ import annotations

from typing import Any

import pytest

from services.engine.logdrivers import complete_log_config, log_policy, log_stream
from services.engine.record import ContainerRecord
from shared.protocol import (
    ContainerConfig,
    ContainerLogs,
    CreateContainer,
    HostConfig,
    InspectContainer,
    InvalidArgument,
    LogConfig,
    LogPolicy,
    NotImplementedByUs,
)
from shared.runtime.config import Config
from tests.unit.engine.doing import create
from tests.unit.engine.test_hostconfig import started

ID = "1f2e" * 16


def record(driver: str, options: dict[str, str], **config: Any) -> ContainerRecord:
    return ContainerRecord(
        id=ID,
        name="web",
        created=0,
        image="sha256:" + "5" * 64,
        requested_image="busybox:latest",
        args=["sh"],
        config=ContainerConfig(**config),
        host_config=HostConfig(log_config=LogConfig(driver, options)),
    )


def test_default_options_are_for_the_default_driver() -> None:
    config = Config(log_driver="local", log_opts=("max-size=1m", "max-file=3"))
    assert complete_log_config(config, LogConfig()) == LogConfig("local", {"max-size": "1m", "max-file": "3"})
    own = complete_log_config(config, LogConfig("local", {"max-file": "7"}))
    assert own == LogConfig("local", {"max-size": "1m", "max-file": "7"})
    assert complete_log_config(config, LogConfig("json-file")) == LogConfig("json-file", {})


def test_what_is_refused_says_whose_fault_it_is() -> None:
    with pytest.raises(InvalidArgument, match="logger: no log driver named 'gelf' is registered"):
        complete_log_config(Config(), LogConfig("gelf"))
    with pytest.raises(NotImplementedByUs, match="mode=non-blocking"):
        complete_log_config(Config(), LogConfig("journald", {"mode": "non-blocking"}))


def test_a_mode_without_effect_is_accepted_and_said(stack: Any) -> None:
    given = HostConfig(log_config=LogConfig("", {"mode": "non-blocking", "max-buffer-size": "4m"}))
    made = stack.client.call(
        CreateContainer(name="web", config=ContainerConfig(image="busybox", cmd=["sh"]), host_config=given)
    )
    assert [warning for warning in made.warnings if "non-blocking" in warning]
    shown = stack.client.call(InspectContainer(container="web")).host_config.log_config
    assert shown.config == {"mode": "non-blocking", "max-buffer-size": "4m"}


@pytest.mark.parametrize(
    ("driver", "options", "policy"),
    [
        ("json-file", {}, LogPolicy(driver="json-file", max_size=20_000_000, max_file=5)),
        ("json-file", {"max-size": "5k"}, LogPolicy(driver="json-file", max_size=5000, max_file=1)),
        ("local", {}, LogPolicy(driver="local", max_size=20_000_000, max_file=5, compress=True)),
        ("journald", {}, LogPolicy(driver="journald", tag=ID[:12])),
        ("journald", {"tag": "{{.Name}}|{{ .ImageName }}"}, LogPolicy(driver="journald", tag="web|busybox:latest")),
    ],
)
def test_the_execdriver_is_told_what_to_keep(driver: str, options: dict[str, str], policy: LogPolicy) -> None:
    assert log_policy(record(driver, options)) == policy


def test_details_are_labels_variables_and_the_tag() -> None:
    options = {"labels": "a,none", "labels-regex": "^x", "env": "COLOUR", "env-regex": "^HO", "tag": "{{.FullID}}"}
    labels = {"a": "1", "b": "2", "x.y": "3"}
    env = ["COLOUR=light blue=ish", "HOME=/root", "PATH=/bin"]
    found = log_stream(Config(), record("json-file", options, labels=labels, env=env))
    assert found.attributes == {"a": "1", "x.y": "3", "COLOUR": "light blue=ish", "HOME": "/root", "tag": ID}


def test_a_log_has_a_path_from_the_first_start_on_if_it_is_json_file(stack: Any) -> None:
    def path(name: str) -> str:
        return str(stack.client.call(InspectContainer(container=name)).log_path)

    container = create(stack, "web")
    assert path("web") == ""
    assert started(stack).log == LogPolicy()
    assert path("web") == f"{stack.config.root}/containers/{container}/container.log"
    stream = stack.client.call(ContainerLogs(container="web"))
    assert (stream.path, stream.generation, stream.running, stream.tty) == (path("web"), 1, True, False)
    create(stack, "quiet", log_config=LogConfig("local"))
    started(stack, "quiet")
    assert path("quiet") == ""


def test_what_is_not_kept_cannot_be_read(stack: Any) -> None:
    create(stack, "web", log_config=LogConfig("none", {"any": "thing"}))
    with pytest.raises(NotImplementedByUs, match="configured logging driver does not support reading"):
        stack.client.call(ContainerLogs(container="web"))
    with pytest.raises(InvalidArgument, match="must specify at least one of"):
        stack.client.call(ContainerLogs(container="web", stdout=False, stderr=False))
