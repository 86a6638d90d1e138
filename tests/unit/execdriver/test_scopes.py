"""What systemd is asked for, and what becomes of its answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jeepney import HeaderFields, MessageType

from services.execdriver import scopes
from services.execdriver.placement import Cgroupfs, Systemd
from services.execdriver.scopes import Scopes
from shared.protocol import DockyardError

Answer = Callable[[], Any]


def reply(kind: MessageType = MessageType.method_return, name: str = "") -> Any:
    return SimpleNamespace(
        header=SimpleNamespace(message_type=kind, fields={HeaderFields.error_name: name}), body=("why",)
    )


def error(name: str) -> Any:
    return reply(MessageType.error, f"org.freedesktop.systemd1.{name}")


def broken() -> Any:
    raise ConnectionResetError(104, "reset")


def late() -> Any:
    raise TimeoutError


class Bus:
    """Connections that answer one after the other as they are told."""

    def __init__(self, *answers: Answer) -> None:
        self.answers: Iterator[Answer] = iter(answers)
        self.asked: list[Any] = []
        self.opened = self.closed = 0

    def connect(self) -> Bus:
        self.opened += 1
        return self

    def send_and_get_reply(self, message: Any, *, timeout: float | None = None) -> Any:
        assert timeout
        self.asked.append(message)
        return next(self.answers)()

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "_cgroups", lambda pid, name: f"0::/dockyard.slice/{name}\n")


@pytest.mark.usefixtures("moved")
def test_the_scope_that_is_asked_for() -> None:
    bus = Bus(reply, reply)
    Scopes(bus.connect).start("dockyard-ab.scope", "dockyard.slice", 42)
    name, mode, properties, others = bus.asked[0].body
    assert (name, mode, others) == ("dockyard-ab.scope", "fail", [])
    given = {key: value for key, (_, value) in properties}
    assert (given["PIDs"], given["Slice"], given["Delegate"]) == ([42], "dockyard.slice", True)
    assert given["Before"] == ["dockyard.service"]  # it is stopped after it
    for serial, message in enumerate(bus.asked, 1):
        message.serialise(serial)  # as the signature says


@pytest.mark.usefixtures("moved")
def test_a_broken_connection_is_made_again_and_one_that_works_is_kept() -> None:
    bus = Bus(broken, reply, reply, reply, reply)
    made = Scopes(bus.connect)
    made.start("dockyard-ab.scope", "dockyard.slice", 42)
    made.start("dockyard-cd.scope", "dockyard.slice", 43)
    assert (bus.opened, bus.closed, len(bus.asked)) == (2, 1, 5)


@pytest.mark.usefixtures("moved")
def test_a_scope_that_is_going_is_waited_for() -> None:
    bus = Bus(lambda: error("UnitExists"), lambda: error("UnitExists"), reply, reply)
    Scopes(bus.connect).start("dockyard-ab.scope", "dockyard.slice", 42)
    assert len(bus.asked) == 4


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([lambda: error("UnitExists")] * 1000, "one of that name is still there"),
        ([lambda: error("TransactionIsDestructive")], "TransactionIsDestructive"),
        ([reply, lambda: error("NoSuchUnit")], "NoSuchUnit"),
        ([broken, broken], "systemd cannot be asked"),
        ([late], "systemd cannot be asked"),  # not asked twice: it may have done it
    ],
)
@pytest.mark.usefixtures("moved")
def test_what_cannot_be_had(answers: list[Answer], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "GONE_TIMEOUT", 0.1)
    with pytest.raises(DockyardError, match=message):
        Scopes(Bus(*answers).connect).start("dockyard-ab.scope", "dockyard.slice", 42)


def test_a_process_that_is_not_moved_or_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "MOVE_TIMEOUT", 0.02)
    with pytest.raises(DockyardError, match="has not moved process"):
        Scopes(Bus(reply).connect).start("dockyard-ab.scope", "dockyard.slice", os.getpid())
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(DockyardError, match="has ended on its way"):
        Scopes(Bus(reply).connect).start("dockyard-ab.scope", "dockyard.slice", ended.pid)


def test_where_containers_are() -> None:
    assert Cgroupfs("/dockyard").cgroup("ab", "") == "/dockyard/ab"
    assert Cgroupfs("/dockyard").cgroup("ab", "../../x") == "/x/ab"
    made = Systemd("dockyard.slice", Scopes(Bus().connect))
    assert made.cgroup("ab", "") == "/dockyard.slice/dockyard-ab.scope/container"
    assert made.cgroup("ab", "a-b.slice") == "/a.slice/a-b.slice/dockyard-ab.scope/container"


def test_a_process_is_there_once_systemd_that_has_begun_to_move_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """cgroup v1: it moves it into one hierarchy after the other, and answers nobody meanwhile."""
    seen = iter(["", "", "0::/dockyard.slice/dockyard-ab.scope\n"])
    told: list[str] = []
    bus = Bus(reply, lambda: told.append("done") or reply())
    monkeypatch.setattr(scopes, "_cgroups", lambda pid, name: told.append("looked") or next(seen))
    Scopes(bus.connect).start("dockyard-ab.scope", "dockyard.slice", 42)
    assert told == ["looked"] * 3 + ["done"]
    assert bus.asked[1].body == ("dockyard-ab.scope",)


@pytest.mark.usefixtures("moved")
def test_on_cgroup_v2_the_monitor_is_apart_from_the_container(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    scope = tmp_path / "dockyard.slice/dockyard-ab.scope"
    scope.mkdir(parents=True)
    Systemd("dockyard.slice", Scopes(Bus(reply, reply).connect), tmp_path).admit(
        "/dockyard.slice/dockyard-ab.scope/container", 42
    )
    assert [(file.parent, file.read_text()) for file in tmp_path.rglob("cgroup.procs")] == [(scope / "monitor", "42")]
