"""That no stack is up, or not for us, is said at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from services.ctl.presence import SOCKETS, require_stack
from shared.protocol import Unavailable


def listener(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(path))
    made.listen(0)
    return made


def test_none_is_up(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"^no stack is up in {tmp_path} "):
        require_stack(tmp_path)
    for name in SOCKETS:
        listener(tmp_path / name).close()  # as killed processes leave them
    with pytest.raises(Unavailable, match=f"^no stack is up in {tmp_path} "):
        require_stack(tmp_path)


@pytest.mark.parametrize("name", SOCKETS)
def test_one_that_listens_is_enough_though_it_accepts_nobody(tmp_path: Path, name: str) -> None:
    with listener(tmp_path / name):
        for _ in range(4):
            require_stack(tmp_path)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(str(tmp_path / name))
        require_stack(tmp_path)
        for one in waiting:
            one.close()


@pytest.mark.root
def test_who_is_not_root_is_told(tmp_path: Path) -> None:
    with listener(tmp_path / "engine.sock"):
        tmp_path.chmod(0o711)
        (tmp_path / "engine.sock").chmod(0o600)
        child = os.fork()
        if not child:
            os.setuid(65534)
            try:
                require_stack(tmp_path)
            except Unavailable as error:
                os._exit(0 if error.message.startswith("permission denied at ") else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
