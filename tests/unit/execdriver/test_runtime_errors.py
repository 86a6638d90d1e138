"""What the runtimes of Debian 12 and 13 say of a command that cannot run, and what clients are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.execdriver.crun import Crun
from services.execdriver.runc import Runc
from shared.protocol import CommandNotExecutable, CommandNotFound, DockyardError

PHRASE = "OCI runtime exec failed: exec failed: unable to start container process: "


@pytest.mark.parametrize(
    ("said", "command", "kind", "told"),
    [
        ("open executable: Permission denied", "/f", CommandNotExecutable, 'exec: "/f": permission denied'),
        ("the path `/f` exists but it is not executable: Operation not permitted", "/f", CommandNotExecutable,
         'exec: "/f": permission denied'),
        ("open executable: Operation not permitted", "/d", CommandNotExecutable,
         'exec: "/d": is a directory: permission denied'),
        ("the path `/d` is not a regular file: Operation not permitted", "/d", CommandNotExecutable,
         'exec: "/d": is a directory: permission denied'),
        ("executable file `/n` not found: No such file or directory", "/n", CommandNotFound,
         'exec: "/n": stat /n: no such file or directory'),
        ("executable file `n` not found in $PATH: No such file or directory", "n", CommandNotFound,
         'exec: "n": executable file not found in $PATH'),
    ],
)  # fmt: skip
def test_crun(tmp_path: Path, said: str, command: str, kind: type[DockyardError], told: str) -> None:
    error = Crun("crun", tmp_path).exec_error(said, [command], "/")
    assert (type(error), error.message) == (kind, f"{PHRASE}{told}: unknown")


@pytest.mark.parametrize("said", ["is a directory: permission denied", "is a directory"])
def test_runc(tmp_path: Path, said: str) -> None:
    message = f'level=error msg="exec failed: unable to start container process: exec: \\"/d\\": {said}"'
    error = Runc("runc", tmp_path).exec_error(message, ["/d"], "/")
    told = f'{PHRASE}exec: "/d": is a directory: permission denied: unknown'
    assert (type(error), error.message) == (CommandNotExecutable, told)
