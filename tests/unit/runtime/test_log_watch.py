"""Watch: who follows a file is woken by what is written to it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from shared.bus.alarm import Alarm
from shared.runtime.logs import watch as watching
from shared.runtime.logs.watch import Watch, Watches

LONG = 60.0  # seconds


def never(_: float) -> bool:
    return False


def test_a_write_ends_the_wait(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb", 0) as writer, path.open("rb") as reader:
        watch = Watch(reader.fileno())
        began = time.monotonic()
        threading.Timer(0.05, writer.write, [b"line\n"]).start()
        assert watch.wait(LONG, never) is False
        assert time.monotonic() - began < LONG / 2
        assert reader.read() == b"line\n"
        assert watch.wait(0.01, never) is False  # what was told of is told once
        writer.write(b"more\n")
        began = time.monotonic()
        watch.wait(LONG, never)
        assert time.monotonic() - began < LONG / 2
        watch.close()
        watch.close()


def instances() -> int:
    """Return how many inotify instances this process has."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += "inotify" in str(entry.readlink())
    return found


def test_many_follow_one_file_and_take_one_instance_of_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb", 0) as writer:
        before = instances()
        watches = [Watch(writer.fileno()) for _ in range(300)]
        assert all(watch.is_told for watch in watches)
        assert instances() <= before + 1
        for watch in watches[:150]:
            watch.close()
        writer.write(b"line\n")
        for watch in watches[150:]:
            began = time.monotonic()
            watch.wait(LONG, never)
            assert time.monotonic() - began < LONG / 2
            watch.close()


@pytest.mark.parametrize("change", ["rename over it", "move", "unlink"])
def test_another_name_ends_the_wait(tmp_path: Path, change: str) -> None:
    """A log is rotated by a name: the part that was written to has another one already."""
    path, other = tmp_path / "log", tmp_path / "log.1"
    with path.open("wb", 0) as writer:
        other.hardlink_to(path)
        watch = Watch(writer.fileno())
        (tmp_path / "new").write_bytes(b"")
        began = time.monotonic()
        if change == "rename over it":
            (tmp_path / "new").rename(path)
        elif change == "move":
            path.rename(tmp_path / "moved")
        else:
            path.unlink()
        watch.wait(LONG, never)
        assert time.monotonic() - began < LONG / 2
        watch.close()


def test_an_alarm_ends_the_wait(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", 0) as writer:
        alarm = Alarm()
        watch = Watch(writer.fileno(), (Alarm(), alarm))
        threading.Timer(0.05, alarm.set).start()
        began = time.monotonic()
        assert watch.wait(LONG, lambda _: alarm.is_set()) is True
        assert time.monotonic() - began < LONG / 2
        watch.close()


@pytest.mark.parametrize("written", [True, False])
def test_who_has_gone_is_noticed(tmp_path: Path, written: bool) -> None:
    path = tmp_path / "log"
    with path.open("wb", 0) as writer:
        watch = Watch(writer.fileno())
        if written:
            writer.write(b"line\n")
        assert watch.wait(0.01, lambda _: True) is True
        watch.close()


def test_without_the_kernel_it_is_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted:
        def inotify_init1(self, _: int) -> int:
            return -1

    monkeypatch.setattr(watching, "libc", Exhausted())
    monkeypatch.setattr(watching._Followed, "_instance", None)
    waited: list[float] = []
    watch = Watch(0)
    assert watch.wait(0.25, lambda seconds: bool(waited.append(seconds)) or True) is True
    assert waited == [0.25]
    watch.close()


def test_a_file_that_has_gone_is_a_pause() -> None:
    assert Watch(-1).wait(0.25, lambda seconds: seconds == 0.25) is True


def test_many_are_told_apart(tmp_path: Path) -> None:
    watches = Watches()
    files = {name: (tmp_path / name).open("wb", 0) for name in ("one", "two", "three")}
    for name in files:
        watches.add(name, tmp_path / name)
    watches.add("nowhere", tmp_path / "nowhere")
    assert watches.wait(0) == set()
    files["one"].write(b"x")
    files["three"].write(b"x")
    assert watches.wait(LONG) == {"one", "three"}
    (tmp_path / "one").rename(tmp_path / "moved")  # it is the file that is watched
    (tmp_path / "one").write_bytes(b"another")
    watches.drop("three")
    files["three"].write(b"y")
    files["one"].write(b"y")
    assert watches.wait(LONG) == {"one"}
    (tmp_path / "two").unlink()
    files.pop("two").close()
    watches.add("again", tmp_path / "one")
    (tmp_path / "one").write_bytes(b"z")
    assert watches.wait(LONG) == {"again"}
    for file in files.values():
        file.close()


def test_without_the_kernel_many_are_a_pause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Exhausted:
        def inotify_init1(self, _: int) -> int:
            return -1

        def inotify_add_watch(self, *_: object) -> int:
            return -1

    monkeypatch.setattr(watching, "libc", Exhausted())
    watches = Watches()
    watches.add("one", tmp_path)
    watches.drop("one")
    assert watches.wait(0.01) == set()
