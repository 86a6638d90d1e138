"""up, ps, logs, exec, scale, restart, pause, kill, wait, down: a project's life."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.composing import major, since
from tests.integration.conftest import until

pytestmark = pytest.mark.root

SLEEP = {"image": "busybox", "command": ["sleep", "1000"], "init": True}
CHATTER = {"image": "busybox", "command": ["sh", "-c", "echo hello from $$HOSTNAME; exec sleep 1000"], "init": True}


def test_up_ps_logs_exec_down(project: Any, stack: Any) -> None:
    app = project({"web": {**CHATTER, "hostname": "webhost"}, "db": SLEEP})
    app("up", "-d")
    assert len(app.ids()) == 2
    assert "hello from webhost" in until(lambda: app.out("logs", "web"))
    assert "web" in app.out("ps")
    assert app.out("exec", "-T", "web", "echo", "inside") == "inside"
    failed = app("exec", "-T", "web", "sh", "-c", "exit 7", check=False)
    assert failed.returncode == 7
    assert (
        app.out(
            "exec", "-T", "-e", "A=b", "-w", "/tmp", "--user", "1:2", "web", "sh", "-c", "echo $A $PWD; id -u; id -g"
        )
        == "b /tmp\n1\n2"
    )
    app.down()
    assert app.ids(all_=True) == []
    assert stack.out("network", "ls", "-q", "--filter", "name=app_default") == ""


def test_a_second_up_recreates_nothing(project: Any) -> None:
    app = project(
        {"web": {**SLEEP, "volumes": ["data:/data"], "networks": ["front", "back"], "ports": ["127.0.0.1::80"]}},
        volumes={"data": {}}, networks={"front": {}, "back": {}},
    )  # fmt: skip
    app("up", "-d")
    before = app.container("web")
    app("up", "-d")
    app("up", "-d")
    after = app.container("web")
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])


def test_a_changed_service_is_recreated_and_the_other_is_not(project: Any) -> None:
    app = project({"web": SLEEP, "db": SLEEP})
    app("up", "-d", "--timeout", "0")
    web, db = app.container("web")["Id"], app.container("db")["Id"]
    app.write({"web": {**SLEEP, "environment": {"A": "1"}}, "db": SLEEP})
    recreate = app("up", "-d", "--timeout", "0", check=major(app.program) > 1)
    if major(app.program) == 1:  # with dockerd as well: it reads ContainerConfig of an image, which 1.45 dropped
        assert "ContainerConfig" in recreate.stderr
        app("rm", "-sf", "web")
        app("up", "-d")
    else:
        assert app.container("web")["Id"] != web
        assert app.container("web")["Name"] == "/app-web-1"
    assert "A=1" in app.container("web")["Config"]["Env"]
    assert app.container("db")["Id"] == db


@since(2)
def test_force_recreate_keeps_the_data(project: Any) -> None:
    app = project({"web": {**SLEEP, "volumes": ["data:/data", "/anonymous"]}}, volumes={"data": {}})
    app("up", "-d")
    app("exec", "-T", "web", "sh", "-c", "echo kept > /data/a; echo kept > /anonymous/a")
    before = app.container("web")["Id"]
    app("up", "-d", "--force-recreate", "--timeout", "0")
    assert app.container("web")["Id"] != before
    assert app.out("exec", "-T", "web", "cat", "/data/a", "/anonymous/a") == "kept\nkept"
    app("up", "-d", "--force-recreate", "--renew-anon-volumes", "--timeout", "0")
    assert app("exec", "-T", "web", "cat", "/anonymous/a", check=False).returncode == 1


def test_scale(project: Any) -> None:
    app = project({"web": CHATTER})
    app("up", "-d", "--scale", "web=3")
    assert len(app.ids("web")) == 3
    first = app.ids("web")[0]
    until(lambda: app.out("logs", "--no-log-prefix", "web").count("hello from") == 3)
    app("up", "-d", "--scale", "web=1", "--timeout", "0")
    assert app.ids("web", all_=True) == [first]
    if major(app.program) > 1:
        app("scale", "web=2")
        assert len(app.ids("web")) == 2


def test_restart_stop_start_pause_kill(project: Any) -> None:
    app = project({"web": SLEEP})
    app("up", "-d")
    container = app.ids("web")[0]

    def state() -> dict[str, Any]:
        found: dict[str, Any] = app.inspect(container)["State"]
        return found

    started = state()["StartedAt"]
    app("restart", "-t", "0", "web")
    assert state()["StartedAt"] > started
    app("pause")
    assert state()["Status"] == "paused"
    app("unpause")
    assert state()["Status"] == "running"
    app("kill", "-s", "TERM", "web")
    until(lambda: state()["Status"] == "exited")
    assert state()["ExitCode"] == 143
    app("start", "web")
    assert state()["Status"] == "running"
    app("stop", "-t", "0")
    assert state()["Status"] == "exited"
    app("rm", "-f")
    assert app.ids(all_=True) == []


def test_up_in_the_foreground_ends_with_its_containers(project: Any) -> None:
    app = project({"one": {"image": "busybox", "command": ["sh", "-c", "echo first; exit 3"]}, "two": SLEEP})
    answer = app("up", "--exit-code-from", "one", "--timeout", "0", check=False)
    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert "first" in answer.stdout
    assert app.ids() == []


def test_top_port_images_and_config(project: Any) -> None:
    app = project({"web": {**SLEEP, "ports": ["127.0.0.1:18081:80"]}})
    app("up", "-d")
    assert "sleep 1000" in app.out("top")
    assert app.out("port", "web", "80") == "127.0.0.1:18081"
    assert "busybox" in app.out("images")
    assert "busybox" in app.out("config")


def test_events(project: Any) -> None:
    app = project({"web": SLEEP})
    watcher = app.popen("events", "--json")
    seen: list[dict[str, Any]] = []
    try:
        assert watcher.stdout is not None
        until(lambda: app.stack.dockyard("job", "subscribers_count").stdout, what="nobody listens")
        time.sleep(1)  # nothing tells when Compose has asked
        app("up", "-d")
        app("kill")
        for line in watcher.stdout:
            seen.append(json.loads(line))
            if seen[-1]["action"] == "die":
                break
    finally:
        watcher.kill()
        watcher.communicate()
    actions = [event["action"] for event in seen if event.get("service") == "web"]
    assert actions[0] == "create"
    assert "start" in actions
    assert actions[-1] == "die"


@since(2)
def test_wait(project: Any) -> None:
    app = project({"job": {"image": "busybox", "command": ["sh", "-c", "sleep 1; exit 5"]}})
    app("up", "-d")
    waited = app("wait", "job", check=False)
    assert waited.returncode == 5


def test_logs_follow_to_the_end_and_across_a_restart(project: Any) -> None:
    app = project({"job": {"image": "busybox", "command": ["sh", "-c", "echo one; sleep 2; echo two"]}})
    app("up", "-d")
    followed = app("logs", "-f", "--no-color", timeout=30)
    assert "one" in followed.stdout
    assert "two" in followed.stdout
    assert app.out("logs", "--tail", "1", "--no-log-prefix", "job").endswith("two")


def test_orphans_are_removed_when_asked(project: Any) -> None:
    app = project({"web": SLEEP, "old": SLEEP})
    app("up", "-d")
    app.write({"web": SLEEP})
    app("up", "-d")
    assert len(app.ids("old")) == 1
    app("up", "-d", "--remove-orphans", "--timeout", "0")
    assert app.ids("old", all_=True) == []


def test_restart_policy(project: Any) -> None:
    app = project(
        {"web": {"image": "busybox", "command": ["sh", "-c", "sleep 0.2; exit 1"], "restart": "on-failure:2"}}
    )
    app("up", "-d")
    until(lambda: app.container("web")["State"]["Status"] == "exited")
    assert app.container("web")["RestartCount"] == 2


def test_an_interrupted_up_stops_its_containers(project: Any) -> None:
    app = project({"web": SLEEP})
    process = app.popen("up", "--timeout", "0")
    until(lambda: app.ids("web"), 30)
    time.sleep(0.5)
    process.send_signal(2)
    process.communicate(timeout=30)
    assert app.ids() == []
    assert len(app.ids(all_=True)) == 1
