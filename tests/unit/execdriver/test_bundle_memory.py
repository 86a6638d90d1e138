"""Bundle: whether memory ran out, which systemd may have removed the count of."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.execdriver import bundle as module
from services.execdriver.bundle import Bundle


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("counted", [True, False, None])
def test_the_count_of_the_cgroup_decides_and_without_one_what_the_monitor_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: bool | None, told: bool
) -> None:
    monkeypatch.setattr(module.Cgroup, "oom_killed", lambda cgroup: counted)
    bundle = Bundle.of(tmp_path, "c" * 64)
    bundle.directory.mkdir(parents=True)
    if told:
        (bundle.directory / "oom").touch()
    assert bundle.ran_out_of_memory("/dockyard/x") is (told if counted is None else counted)
