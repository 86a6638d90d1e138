"""hosts: a container's own names, under all the addresses that it has, and no other."""

from __future__ import annotations

from pathlib import Path

from services.execdriver.files import LOCAL_HOSTS, set_own_addresses, write_files
from shared.protocol import HostConfig, Interface, RuntimeSetAddresses, RuntimeStart
from tests.unit.execdriver.starts import start_of


def start(directory: Path, *addresses: str, domainname: str = "") -> RuntimeStart:
    return start_of(
        directory,
        HostConfig(extra_hosts=["web:203.0.113.1"]),
        Interface(mode="bridge", address="10.0.0.2", address6="fd00::2"),
        addresses=list(addresses),
        domainname=domainname,
    )


def now(directory: Path, *addresses: str, gone: list[str], domainname: str = "") -> RuntimeSetAddresses:
    return RuntimeSetAddresses(
        directory=str(directory), hostname="web", domainname=domainname, addresses=list(addresses), gone=gone
    )


def own(directory: Path) -> list[str]:
    text = (directory / "hosts").read_text()
    assert text.startswith(LOCAL_HOSTS)
    return text.removeprefix(LOCAL_HOSTS).splitlines()


def test_addresses_of_all_networks_are_there_at_the_start(tmp_path: Path) -> None:
    write_files(start(tmp_path, "10.0.0.2", "fd00::2", "10.1.0.2"), (), ())
    assert own(tmp_path) == ["203.0.113.1\tweb", "10.0.0.2\tweb", "fd00::2\tweb", "10.1.0.2\tweb"]
    write_files(start(tmp_path), (), ())  # an engine of before tells of one interface
    assert own(tmp_path) == ["203.0.113.1\tweb", "10.0.0.2\tweb", "fd00::2\tweb"]


def test_they_change_while_it_runs_and_other_lines_stay(tmp_path: Path) -> None:
    write_files(start(tmp_path, "10.0.0.2", domainname="example.com"), (), ())
    inode = (tmp_path / "hosts").stat().st_ino
    with (tmp_path / "hosts").open("a") as file:
        file.write("10.0.0.2\tmine\n")
    for _ in range(2):
        job = now(tmp_path, "10.1.0.2", "fd00::9", gone=["10.0.0.2"], domainname="example.com")
        set_own_addresses(job)
        assert own(tmp_path) == [
            "203.0.113.1\tweb",
            "10.0.0.2\tmine",
            "10.1.0.2\tweb.example.com web",
            "fd00::9\tweb.example.com web",
        ]
    assert (tmp_path / "hosts").stat().st_ino == inode  # it is bound into the container
    set_own_addresses(now(tmp_path / "none", "10.1.0.2", gone=[]))
