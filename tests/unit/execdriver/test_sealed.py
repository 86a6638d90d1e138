"""A runtime's program is run from a copy that nobody can write to, which follows the program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from services.execdriver.sealed import SealedProgram


def program(directory: Path, of: str) -> Path:
    new = directory / "new"
    shutil.copy(shutil.which(of) or of, new)
    return new.rename(directory / "program")


def test_a_copy_is_executed_that_cannot_be_written_to(tmp_path: Path) -> None:
    path = program(tmp_path, "true")
    sealed = SealedProgram(str(path))
    copy = Path(sealed.path)
    assert (copy != path, sealed.path) == (True, str(copy))
    assert copy.read_bytes() == path.read_bytes()
    assert subprocess.run([copy], check=False).returncode == 0
    with pytest.raises(PermissionError), copy.open("r+b") as file:
        file.write(b"another")


def test_a_program_that_was_replaced_is_copied_anew_and_the_old_copy_stays_for_who_is_about_to_run_it(
    tmp_path: Path,
) -> None:
    sealed = SealedProgram(str(program(tmp_path, "true")))
    before = sealed.path
    program(tmp_path, "ls")
    assert sealed.path != before
    assert subprocess.run([sealed.path, tmp_path], capture_output=True, check=True).stdout == b"program\n"
    assert subprocess.run([before, tmp_path], capture_output=True, check=True).stdout == b""


def test_a_script_and_what_cannot_be_run_so_stay_as_they_are(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\necho "$0"\n')
    script.chmod(0o755)
    assert SealedProgram(str(script)).path == str(script)
    failing = program(tmp_path, "false")
    assert SealedProgram(str(failing)).path == str(failing)


def test_one_that_is_gone_is_an_error(tmp_path: Path) -> None:
    path = program(tmp_path, "true")
    sealed = SealedProgram(str(path))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        _ = sealed.path
