"""Directories that a stack would do harm in are refused, before anything is made or changed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from services.ctl.places import check_places
from services.ctl.startup import CHECKS, REPEATED_CHECKS
from shared.runtime.config import Config, ConfigError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(root=tmp_path / "root", run=tmp_path / "run")


@pytest.mark.parametrize("path", ["/", "/var", "/var/lib", "/tmp", "/run", "/home", "/usr/../etc", "/var/run"])
@pytest.mark.parametrize("setting", ["root", "run"])
def test_a_directory_of_the_systems(config: Config, setting: str, path: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting}: {os.path.realpath(path)} is a directory of the system's"):
        check_places(dataclasses.replace(config, **{setting: Path(path)}))


def test_one_of_the_two_in_the_other(config: Config, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("root")
    for run in (
        config.root,
        config.root / "tmp",
        config.root / "a/b",
        tmp_path,
        tmp_path / "link",
        tmp_path / "link/c",
    ):
        with pytest.raises(ConfigError, match="root and run must not be the same, nor one inside the other"):
            check_places(dataclasses.replace(config, run=run))
    check_places(dataclasses.replace(config, run=tmp_path / "root2"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["lost+found", "volumes", "tmp"], ""),
        (["dockyard.lock", "notes"], ""),
        (["engine.db", "engine.db-wal", "graph"], ""),
        (["image", "overlay2", "tmp", "volumes"], "(image, overlay2)"),
        (["Documents", "a", "b", "c"], "(Documents, a, b, …)"),
    ],
    ids=str,
)
def test_a_root_in_which_others_have_something(config: Config, names: list[str], said: str) -> None:
    config.root.mkdir()
    for name in names:
        (config.root / name).mkdir()
    if not said:
        check_places(config)
        return
    with pytest.raises(ConfigError) as caught:
        check_places(config)
    assert said in str(caught.value)
    assert sorted(path.name for path in config.root.iterdir()) == sorted(names)


def test_it_is_the_first_check_at_a_start_and_before_a_reload() -> None:
    assert {checks[0].__name__ for checks in (CHECKS, REPEATED_CHECKS)} == {"_places"}
