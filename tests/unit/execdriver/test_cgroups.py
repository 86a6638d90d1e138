"""Cgroups on trees that look like cgroup v1, v2 and a hybrid host."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.execdriver import cgroups
from services.execdriver.cgroups import Cgroup
from shared.protocol import DockyardError


def tree(root: Path, *files: str) -> Cgroup:
    """Make empty files, named as ``HIERARCHY/FILE``, of the cgroup /dockyard/x."""
    for name in files:
        hierarchy, _, file = name.rpartition("/")
        directory = root / hierarchy / "dockyard" / "x"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / file).touch()
    return Cgroup("/dockyard/x", root)


def v2(root: Path, *files: str) -> Cgroup:
    (root / "cgroup.controllers").write_text("cpu memory pids")
    return tree(root, *files)


def test_v1_freezes_by_its_freezer(tmp_path: Path) -> None:
    cgroup = tree(tmp_path, "freezer/freezer.state", "unified/cgroup.freeze")
    cgroup.freeze()
    assert cgroup.frozen()
    cgroup.thaw()
    assert not cgroup.frozen()
    assert cgroup.directory("freezer").joinpath("freezer.state").read_text() == "THAWED"


@pytest.mark.parametrize("hybrid", [False, True])
def test_v2_freezes_by_cgroup_freeze_and_waits_for_the_event(tmp_path: Path, hybrid: bool) -> None:
    prefix = "unified/" if hybrid else ""
    make = tree if hybrid else v2
    cgroup = make(tmp_path, f"{prefix}cgroup.freeze", f"{prefix}cgroup.events")
    directory = tmp_path / prefix / "dockyard" / "x"
    (directory / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    cgroup.freeze()
    assert (directory / "cgroup.freeze").read_text() == "1"
    (directory / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    assert not cgroup.frozen()


def test_what_does_not_freeze_runs_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "FREEZE_TIMEOUT", 0.01)
    cgroup = v2(tmp_path, "cgroup.freeze", "cgroup.events")
    with pytest.raises(DockyardError, match="cannot be frozen"):
        cgroup.freeze()
    assert (cgroup.directory("") / "cgroup.freeze").read_text() == "0"


def test_a_cgroup_that_is_gone_is_not_frozen_and_thaws_without_complaint(tmp_path: Path) -> None:
    (tmp_path / "freezer").mkdir()
    cgroup = Cgroup("/dockyard/gone", tmp_path)
    cgroup.thaw()
    assert not cgroup.frozen()
    assert not cgroup.processes()
    cgroup.remove()


def test_processes_of_inner_cgroups_count(tmp_path: Path) -> None:
    cgroup = v2(tmp_path, "cgroup.procs")
    inner = cgroup.directory("") / "inner"
    inner.mkdir()
    (cgroup.directory("") / "cgroup.procs").write_text("12\n0\n")
    (inner / "cgroup.procs").write_text("13\n")
    assert cgroup.processes() == {12, 13}


@pytest.mark.parametrize(("file", "hierarchy"), [("memory.oom_control", "memory"), ("memory.events", "")])
def test_an_oom_kill_is_seen(tmp_path: Path, file: str, hierarchy: str) -> None:
    cgroup = (tree if hierarchy else v2)(tmp_path, f"{hierarchy}/{file}".lstrip("/"))
    assert not cgroup.oom_killed()
    (cgroup.directory("memory") / file).write_text("under_oom 0\noom_kill 2\n")
    assert cgroup.oom_killed()
