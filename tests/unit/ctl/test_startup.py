"""The start-up checks: their order, and what each says."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.ctl import startup
from services.ctl.startup import CHECKS, REPEATED_CHECKS, StartError, check
from shared.runtime.config import Config, ConfigError

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(root=tmp_path / "root", run=tmp_path / "run")


def refusal(config: Config, *names: str) -> str:
    """Carry out the named checks; returns what one of them says."""
    with pytest.raises((StartError, ConfigError)) as caught:
        for one in CHECKS:
            if one.__name__ in names:
                one(config)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_the_order_is_that_of_the_2014_daemon() -> None:
    assert [one.__name__.removeprefix("_") for one in CHECKS] == [
        "places", "claim_root", "claim_run", "system", "user", "architecture", "kernel", "host", "temporary", "selinux",
        "storage", "exec_driver", "cgroups",
    ]  # fmt: skip


def test_the_first_that_fails_is_the_answer(config: Config) -> None:
    done: list[str] = []

    def step(name: str, fails: bool = False) -> Callable[[Config], None]:
        def one(_: Config) -> None:
            done.append(name)
            if fails:
                raise StartError(name)

        return one

    with pytest.raises(StartError, match="b"):
        check(config, [step("a"), step("b", fails=True), step("c")])
    assert done == ["a", "b"]


def test_the_real_path_of_the_root_is_used(config: Config, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    assert check(config, []).root == tmp_path / "real"


@pytest.mark.parametrize(
    ("setting", "mode", "lock", "what"),
    [("root", 0o710, startup.ROOT_LOCK, "runs on"), ("run", 0o711, startup.RUN_LOCK, "has its sockets in")],
)
def test_a_directory_has_one_stack(config: Config, setting: str, mode: int, lock: str, what: str) -> None:
    directory: Path = getattr(config, setting)
    directory.mkdir(mode)
    held = startup.take_lock(directory / lock)
    assert held is not None
    assert refusal(config, f"_claim_{setting}") == f"another dockyard stack {what} {directory}"
    os.close(held)
    directory.joinpath(lock).unlink()
    directory.rmdir()
    getattr(startup, f"_claim_{setting}")(config)
    assert directory.stat().st_mode & 0o777 == mode


def test_a_run_directory_that_cannot_be_made_is_named(config: Config) -> None:
    config = dataclasses.replace(config, run=Path("/proc/none"))
    assert refusal(config, "_claim_run") == "run: /proc/none: No such file or directory"


def test_a_root_that_is_no_directory_is_named(config: Config) -> None:
    config.root.write_text("")
    assert refusal(config, "_claim_root") == f"root: {config.root} is not a directory"
    below = dataclasses.replace(config, root=config.root / "below")
    assert refusal(below, "_claim_root") == f"root: {below.root} is not a directory"


@ROOT_ONLY
def test_who_is_not_root_is_told_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    script = (
        "from services.ctl.up import up; from shared.runtime.config import Config; from pathlib import Path; import sys"
    )
    script += f"; sys.exit(up(Config(root=Path('{tmp_path}/root'), run=Path('{tmp_path}/run')), Path('none')))"
    become = "import os; os.setgid(65534); os.setuid(65534); "
    result = subprocess.run(
        [sys.executable, "-c", script.replace("; sys.exit", f"; {become}sys.exit")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, "dockyard: dockyard needs to be run as root\n")


def test_what_the_host_is(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert refusal(config, "_user") == "dockyard needs to be run as root"
    monkeypatch.setattr(platform, "machine", lambda: "mips")
    assert refusal(config, "_architecture") == "dockyard supports x86_64 and aarch64, not mips"
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert refusal(config, "_system") == "dockyard is only supported on linux"
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nowhere")
    assert "is missing: apt-get install crun; `dockyard doctor` prints" in refusal(config, "_host")


@pytest.mark.root
def test_a_kernel_without_nftables_will_do_if_the_rules_are_somebody_elses(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nft").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "kernel: nftables is missing: modprobe nf_tables" in refusal(config, "_host")
    startup._host(dataclasses.replace(config, firewall=False, ip_masq=False))


def test_an_old_kernel_only_warns(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(platform, "release", lambda: "4.19.0-18-amd64")
    startup._kernel(dataclasses.replace(config, nowarn_kernel_version=True))
    assert not caplog.records
    startup._kernel(config)
    assert caplog.messages == ["kernel older than 5.6, things may fail kernel=4.19.0-18-amd64"]


def test_the_temporary_directory_is_cleared_if_it_is_ours(config: Config, tmp_path: Path) -> None:
    (config.root / "tmp").mkdir(parents=True)
    (config.root / "tmp" / "left").touch()
    startup._temporary(config)
    assert not list((config.root / "tmp").iterdir())
    assert config.temporary.stat().st_mode & 0o777 == 0o700
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "kept").touch()
    startup._temporary(dataclasses.replace(config, tmpdir=tmp_path / "theirs"))
    assert (tmp_path / "theirs" / "kept").exists()
    bad = dataclasses.replace(config, tmpdir=tmp_path / "theirs" / "kept")
    assert refusal(bad, "_temporary") == f"tmpdir: {bad.tmpdir}: File exists"


def test_before_a_reload_directories_that_were_named_are_tried_and_nothing_in_them_is_touched(
    config: Config, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("7")
    repeated = [one for one in REPEATED_CHECKS if one.__name__ in ("_named_temporary", "_named_pidfile")]
    for setting, path, why in (
        ("tmpdir", tmp_path / "file", "File exists"),
        ("tmpdir", tmp_path / "file" / "below", "Not a directory"),
        ("pidfile", tmp_path / "none" / "pid", "No such file or directory"),
        ("pidfile", tmp_path, "Is a directory"),
    ):
        with pytest.raises(ConfigError, match=f"^{setting}: {path}: {why}$"):
            check(dataclasses.replace(config, **{setting: path}), repeated)
    check(dataclasses.replace(config, pidfile=tmp_path / "file", tmpdir=tmp_path / "new"), repeated)
    check(dataclasses.replace(config, pidfile=tmp_path / "pid"), repeated)
    check(config, repeated)
    assert (tmp_path / "file").read_text() == "7"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new"]


@ROOT_ONLY
def test_a_storage_driver_is_tried_though_there_is_no_root_yet(config: Config) -> None:
    startup._storage(dataclasses.replace(config, storage_driver="overlay"))
    assert not config.root.exists()


def test_labels_are_accepted_and_it_is_said_that_there_are_none(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    startup._selinux(config)
    assert not caplog.messages
    startup._selinux(dataclasses.replace(config, selinux_enabled=True, context=("type:container_t",)))
    assert caplog.messages == [
        "selinux-enabled: containers get no SELinux labels", "context: containers get no SELinux labels",
    ]  # fmt: skip


@ROOT_ONLY
def test_a_named_storage_driver_that_cannot_work_says_why(config: Config) -> None:
    config.root.mkdir()
    startup._storage(dataclasses.replace(config, storage_driver="overlay", storage_opt=("overlay.index=on",)))
    startup._storage(dataclasses.replace(config, storage_driver="vfs"))
    bad = dataclasses.replace(config, storage_driver="overlay", storage_opt=("overlay.nonesuch=1",))
    message = refusal(bad, "_storage")
    assert message.startswith(f"storage-driver: overlay does not work in {config.root}: ")
    assert not list(config.root.iterdir())


def test_an_unknown_exec_driver_and_one_that_is_not_there(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = dataclasses.replace(config, exec_driver="lxc")
    assert refusal(unknown, "_exec_driver") == "exec-driver: unknown exec driver lxc"
    monkeypatch.setenv("PATH", "/nowhere")
    assert refusal(config, "_exec_driver") == "exec-driver: crun is not installed"
