"""resolv.conf: the container's own settings, the embedded server, and what a user has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.execdriver.files import set_resolver, write_files
from shared.protocol import HostConfig, Interface, RuntimeStart
from tests.unit.execdriver.starts import start_of


def job(directory: Path, resolver: str = "", **host_config: list[str]) -> RuntimeStart:
    settings = HostConfig(**host_config)  # type: ignore[arg-type]
    return start_of(directory, settings, Interface(mode="bridge", address="10.0.0.2", resolver=resolver))


def written(directory: Path) -> list[str]:
    return (directory / "resolv.conf").read_text().splitlines()


def test_the_embedded_server_is_the_only_one_and_knows_names_without_dots(tmp_path: Path) -> None:
    write_files(job(tmp_path, "127.0.0.11", dns=["192.0.2.1"], dns_search=["example.com"]), (), ())
    assert written(tmp_path) == ["nameserver 127.0.0.11", "search example.com", "options ndots:0"]


@pytest.mark.parametrize(
    ("options", "line"),
    [(["timeout:1"], "options timeout:1 ndots:0"), (["ndots:3", "rotate"], "options ndots:3 rotate")],
)
def test_options_are_passed_on(tmp_path: Path, options: list[str], line: str) -> None:
    write_files(job(tmp_path, "127.0.0.11", dns_options=options), (), ("example.com",))
    assert written(tmp_path)[-1] == line


def test_a_later_start_writes_it_anew_unless_its_user_has_changed_it(tmp_path: Path) -> None:
    write_files(job(tmp_path, dns=["192.0.2.1"]), (), (".",))
    write_files(job(tmp_path, "127.0.0.11"), (), (".",))
    assert written(tmp_path)[0] == "nameserver 127.0.0.11"
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.9\n")
    write_files(job(tmp_path, dns=["192.0.2.1"]), (), (".",))
    assert written(tmp_path) == ["nameserver 192.0.2.9"]


def test_a_container_that_runs_is_led_to_the_embedded_server(tmp_path: Path) -> None:
    write_files(job(tmp_path, dns=["192.0.2.1"]), (), (".",))
    inode = (tmp_path / "resolv.conf").stat().st_ino
    for _ in range(2):
        set_resolver(tmp_path, "127.0.0.11", HostConfig(), (), (".",))
        assert written(tmp_path)[0] == "nameserver 127.0.0.11"
    assert (tmp_path / "resolv.conf").stat().st_ino == inode  # it is bound into the container
