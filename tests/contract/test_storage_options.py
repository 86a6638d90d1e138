"""The options of the storage drivers: what each changes on a real mount."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from services.graphdriver.layers import choose_driver
from shared.protocol import DockyardError

pytestmark = pytest.mark.root


@pytest.mark.parametrize(("option", "seen"), [("overlay.index=on", "changed"), ("overlay.index=off", "")])
def test_with_an_index_hard_links_survive_a_change_of_their_file(tmp_path: Path, option: str, seen: str) -> None:
    driver = choose_driver("overlay", tmp_path, [option])
    layer, container = tmp_path / "layer", tmp_path / "container"
    driver.prepare(layer, [])
    (layer / "diff" / "one").touch()
    (layer / "diff" / "other").hardlink_to(layer / "diff" / "one")
    driver.create(container, [layer])
    root = driver.mount(container, [layer])
    try:
        (root / "one").write_text("changed")
        assert (root / "other").read_text() == seen
    finally:
        driver.unmount(container)


def test_an_option_that_the_kernel_refuses_is_no_reason_to_copy_instead(tmp_path: Path) -> None:
    with pytest.raises(DockyardError, match="storage driver overlay does not work in"):
        choose_driver("overlay", tmp_path, ["overlay.nonesuch=on"])


def test_the_driver_of_what_is_here_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all images would be gone with a kernel, or a disk, on which overlay cannot be tried."""
    (tmp_path / "tmp").mkdir()

    def fails(number: int) -> None:
        def mount(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("services.graphdriver.overlay.syscalls.mount", mount)

    fails(errno.ENODEV)
    assert choose_driver("", tmp_path / "tmp").name == "vfs"
    fails(errno.ENOSPC)
    assert choose_driver("", tmp_path / "tmp").name == "overlay"
    (tmp_path / "overlay/0123456789ab").mkdir(parents=True)
    fails(errno.ENODEV)
    with pytest.raises(DockyardError, match="does not work"):
        choose_driver("", tmp_path / "tmp")
