"""What is visible is on disk before anybody hears of it, and nobody waits for what is there already."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from services.graphdriver.durable import Durable


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    done: list[Path] = []
    monkeypatch.setattr("services.graphdriver.durable.sync_file_system", done.append)
    return done


def test_once_for_all_changes(tmp_path: Path, synced: list[Path]) -> None:
    durable = Durable(tmp_path)
    durable.settle()
    assert synced == [tmp_path], "what an earlier process made may not be there"
    durable.settle()
    assert len(synced) == 1
    for _ in range(3):
        with durable.change():
            pass
    durable.settle()
    durable.settle()
    assert len(synced) == 2


def test_what_failed_is_still_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    durable = Durable(tmp_path)
    monkeypatch.setattr("services.graphdriver.durable.sync_file_system", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            durable.settle()


def test_who_comes_while_another_waits_for_the_disk_waits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Path) -> None:
        begun.set()
        assert go_on.wait(10)

    monkeypatch.setattr("services.graphdriver.durable.sync_file_system", slow)
    durable = Durable(tmp_path)
    both = [threading.Thread(target=durable.settle) for _ in range(2)]
    both[0].start()
    assert begun.wait(10)
    both[1].start()
    both[1].join(0.1)
    assert both[1].is_alive(), "it answered before the disk did"
    go_on.set()
    for thread in both:
        thread.join(10)
        assert not thread.is_alive()
