"""Namespaces made in advance: each is handed out once, they come back after a while, and they end with their owner."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.netdriver import spares as module
from services.netdriver.netlink import IFF_UP, Rtnl, get_link
from services.netdriver.netns import Namespace, exists, inside, open_namespace, remove
from services.netdriver.spares import Spares
from tests.unit.netdriver.rig import until


@contextmanager
def served(spares: Spares) -> Iterator[Spares]:
    stop = threading.Event()
    thread = threading.Thread(target=spares.serve, args=(stop,), daemon=True)
    thread.start()
    try:
        until(lambda: spares.count == 3)
        yield spares
    finally:
        stop.set()
        spares.take().close()
        thread.join(5)
        assert not thread.is_alive()
        assert spares.count == 0


def test_one_that_is_taken_is_nobody_elses_and_is_replaced() -> None:
    with served(Spares(3)) as spares:
        taken = [spares.take() for _ in range(5)]  # two more than there are
        try:
            assert len({os.fstat(one.fd).st_ino for one in taken}) == 5
            until(lambda: spares.count == 3)
        finally:
            for one in taken:
                one.close()


def test_a_spare_gets_the_name_and_is_as_one_that_is_made(tmp_path: Path) -> None:
    path, seen = tmp_path / "netns" / "one", []
    path.parent.mkdir()

    def look() -> bool:
        with Rtnl() as rtnl:
            return bool(rtnl.get(get_link("lo"))["flags"] & IFF_UP)

    with served(Spares(3)) as spares:

        def take() -> Namespace:
            seen.append(spares.take())
            return seen[0]

        try:
            with open_namespace(path, take) as namespace:
                inode = os.fstat(namespace.fd).st_ino
            assert path.stat().st_ino == inode
            assert inside(path, look)
            with open_namespace(path, take) as again:
                assert os.fstat(again.fd).st_ino == inode
            assert len(seen) == 1
        finally:
            remove(path)
    assert not exists(path)


def test_where_none_can_be_made_a_start_is_told_and_the_others_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Namespace:
        raise OSError(28, "No space left on device")

    with served(Spares(3)) as spares:
        monkeypatch.setattr(module, "make", refuse)
        for _ in range(3):
            spares.take().close()
        with pytest.raises(OSError, match="No space left"):
            spares.take()
        monkeypatch.undo()
        spares.take().close()
        until(lambda: spares.count == 3)
