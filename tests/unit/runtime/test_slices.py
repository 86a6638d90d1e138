"""Names of slices, and which cgroup driver a host gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.slices import choose, is_slice, scope_cgroup, slice_path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("dockyard.slice", "/dockyard.slice"),
        ("user-1000-web.slice", "/user.slice/user-1000.slice/user-1000-web.slice"),
        ("-.slice", ""),
    ],
)
def test_where_a_slice_is(name: str, path: str) -> None:
    assert slice_path(name) == path
    assert scope_cgroup(name, "ab") == f"{path}/dockyard-ab.scope/container"


@pytest.mark.parametrize(
    "name", ["", "/dockyard", "dockyard", "a/b.slice", "a--b.slice", "-a.slice", "a-.slice", ".slice"]
)
def test_what_is_no_slice(name: str) -> None:
    assert not is_slice(name)
    with pytest.raises(ValueError, match="not a slice"):
        slice_path(name)


@given(st.text(alphabet="ab-./\\_ \n", max_size=12))
def test_a_slice_leads_nowhere_else(name: str) -> None:
    if is_slice(f"{name}.slice") and name != "-":
        parts = slice_path(f"{name}.slice").split("/")[1:]
        assert parts[-1] == f"{name}.slice"
        assert all(part.endswith(".slice") and part not in (".", "..") for part in parts)


@pytest.mark.parametrize(
    ("driver", "parent", "booted", "chosen"),
    [
        ("", "", True, ("systemd", "dockyard.slice")),
        ("", "", False, ("cgroupfs", "/dockyard")),
        ("", "/mine", True, ("cgroupfs", "/mine")),
        ("", "mine.slice", True, ("systemd", "mine.slice")),
        ("", "mine.slice", False, ("cgroupfs", "mine.slice")),
        ("cgroupfs", "", True, ("cgroupfs", "/dockyard")),
        ("systemd", "", False, ("systemd", "dockyard.slice")),
    ],
)
def test_the_driver_that_fits(tmp_path: Path, driver: str, parent: str, booted: bool, chosen: tuple[str, str]) -> None:
    assert choose(driver, parent, tmp_path if booted else tmp_path / "no") == chosen
