from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from shared.runtime.config import Config, ConfigError, load_config, to_environ


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = write(tmp_path / "d.toml", 'bridge = "f0"\nmtu = 1400\ngroup = "f"\n')
    config = load_config({"bridge": "flag0", "mtu": None}, {"DOCKYARD_MTU": "1300", "DOCKYARD_BRIDGE": "e0"}, file)
    assert (config.bridge, config.mtu, config.group, config.ip) == ("flag0", 1300, "f", "0.0.0.0")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour = 1", "colour"),
        ('mtu = "wide"', "mtu"),
        ("mtu = true", "mtu"),
        ("bridge = 7", "bridge"),
        ('bip = "300.1.1.1/8"', "bip"),
        ('dns = ["nowhere"]', "dns"),
        ('icc = "perhaps"', "icc"),
        ('storage_driver = "aufs"', "storage_driver"),
    ],
)
def test_a_wrong_setting_names_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load_config({}, {}, write(tmp_path / "d.toml", text))


def test_broken_toml_and_a_named_file_that_is_missing_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_config({}, {}, write(tmp_path / "d.toml", "= ="))
    with pytest.raises(ConfigError, match="no such file"):
        load_config({}, {"DOCKYARD_CONFIG": str(tmp_path / "none.toml")})


def test_settings_reach_a_child_through_its_environment() -> None:
    config = Config(root=Path("/a"), dns=("192.0.2.1", "192.0.2.2"), icc=False, mtu=1400, listen_fds=(3, 4))
    assert load_config({}, to_environ(config)) == config


def test_the_sample_file_has_every_setting_with_its_default(tmp_path: Path) -> None:
    sample = (Path(__file__).parents[3] / "packaging" / "dockyard.toml").read_text()
    settings = [line.removeprefix("# ") for line in sample.splitlines() if re.match(r"# \w+ = ", line)]
    file = write(tmp_path / "d.toml", "\n".join(settings))
    assert load_config({}, {}, file) == Config()
    names = {field.name for field in dataclasses.fields(Config)} - {"listen_fds"}
    assert {line.split(" = ")[0] for line in settings} == names
