"""What a container uses, from files as the kernel lays them out: cgroup v1, v2, hybrid."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.ctl.cgroups import Cgroups, Usage

ID = "ab" * 32
V1 = {
    "cpuacct/dockyard/ID/cpuacct.usage": "2500000000\n",
    "memory/dockyard/ID/memory.usage_in_bytes": "9000\n",
    "memory/dockyard/ID/memory.stat": "cache 5000\ninactive_file 1\ntotal_inactive_file 4000\n",
    "pids/dockyard/ID/pids.current": "3\n",
}
V2_CPU = "usage_usec 2500000\nuser_usec 1\n"
V2 = {
    "cgroup.controllers": "cpu memory pids\n",
    "dockyard/ID/cpu.stat": V2_CPU,
    "dockyard/ID/memory.current": "9000\n",
    "dockyard/ID/memory.stat": "anon 1\ninactive_file 4000\n",
    "dockyard/ID/pids.current": "3\n",
}
HYBRID = {
    "unified/cgroup.controllers": "pids\n",
    "unified/dockyard/ID/cpu.stat": V2_CPU,
    "unified/dockyard/ID/pids.current": "3\n",
    **{path: text for path, text in V1.items() if path.startswith("memory")},
}


def cgroups(root: Path, files: dict[str, str]) -> Cgroups:
    for path, text in files.items():
        file = root / path.replace("ID", ID)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Cgroups("/dockyard", root)


@pytest.mark.parametrize("files", [V1, V2, HYBRID], ids=["v1", "v2", "hybrid"])
def test_usage(tmp_path: Path, files: dict[str, str]) -> None:
    made = cgroups(tmp_path, files)
    assert made.usage(ID) == Usage(cpu=2.5, memory=5000, pids=3)
    assert made.containers() == {ID}


def test_what_is_no_container_is_none(tmp_path: Path) -> None:
    made = cgroups(tmp_path, {"memory/dockyard/other/memory.usage_in_bytes": "1", "memory/dockyard/memory.stat": ""})
    assert made.containers() == set()
    assert made.usage(ID) is None
    assert Cgroups("/dockyard", tmp_path / "nowhere").containers() == set()


def test_a_controller_that_is_missing_counts_nothing(tmp_path: Path) -> None:
    made = cgroups(tmp_path, {"cpuacct/dockyard/ID/cpuacct.usage": "1000000000\n"})
    assert made.usage(ID) == Usage(cpu=1.0, memory=0, pids=0)
