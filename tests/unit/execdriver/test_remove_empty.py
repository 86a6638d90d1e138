"""The cgroup above all containers goes with the stack, if nothing is in it."""

from __future__ import annotations

from pathlib import Path

from services.execdriver.cgroups import remove_empty


def test_where_it_is_empty_it_goes(tmp_path: Path) -> None:
    for controller in ("cpu", "memory"):
        (tmp_path / controller / "dockyard").mkdir(parents=True)
    (tmp_path / "memory" / "dockyard" / "one").mkdir()
    remove_empty("/dockyard", tmp_path)
    remove_empty("/dockyard", tmp_path)
    assert not (tmp_path / "cpu" / "dockyard").exists()
    assert (tmp_path / "memory" / "dockyard" / "one").exists()
