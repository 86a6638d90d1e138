"""What `make install` lays out and `make uninstall` takes away, called as the Makefile does: with relative paths."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from services.ctl.commands import app
from shared.runtime.config import NAMES

HEADINGS = re.compile(r"^\.TP\n(\.B\w* .*)", re.MULTILINE)
CHECKOUT = Path(__file__).parents[3]
PROGRAM = os.path.relpath(Path(sys.executable).with_name("dockyard"), CHECKOUT)


def bash(*command: str) -> str:
    return subprocess.run(["bash", *command], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout


def test_all_that_is_laid_out_is_taken_away_but_the_configuration(tmp_path: Path) -> None:
    destination = os.path.relpath(tmp_path, CHECKOUT)
    bash("packaging/tree.sh", destination, "/opt/x", PROGRAM)
    there = {f"/{path.relative_to(tmp_path)}" for path in tmp_path.rglob("*") if path.is_file()}
    assert there == set(bash("packaging/tree.sh", "--list", "/opt/x").split())
    assert "ExecStart=/opt/x/bin/dockyard up" in (tmp_path / "opt/x/lib/systemd/system/dockyard.service").read_text()
    assert "dockyard" in (tmp_path / "opt/x/share/bash-completion/completions/dockyard").read_text()
    settings = tmp_path / "etc/dockyard/dockyard.toml"
    settings.write_text("debug = true\n")
    bash("packaging/tree.sh", destination, "/opt/x", PROGRAM)  # again: settings are the operator's
    bash("packaging/uninstall.sh", destination, "/opt/x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [settings]
    assert settings.read_text() == "debug = true\n"
    left = {str(path.relative_to(tmp_path / "opt/x")) for path in (tmp_path / "opt/x").rglob("*")}
    assert left == {"bin", "lib", "share", "share/doc", "share/man", "share/man/man1"}


def test_the_manual_has_all_commands_and_their_options() -> None:
    """But those of `up`, which are the settings, and `--help`."""
    text = (CHECKOUT / "packaging/man/dockyard.1").read_text()
    commands = get_command(app).commands  # type: ignore[attr-defined]
    headings = HEADINGS.findall(text.partition(".SH COMMANDS")[2].partition(".SH ENVIRONMENT")[0])
    assert {re.sub(r"[\"\\].*", "", line.split(maxsplit=1)[1].strip('"').split()[0]) for line in headings} == {
        *commands
    }
    options = {name for one in commands.values() for parameter in one.params for name in parameter.opts}
    settings = {f"--{name.replace('_', '-')}" for name in NAMES}
    wanted = {name for name in options - settings - {"--help"} if name.startswith("--")}
    for name in (*commands, *wanted):
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", text.replace("\\-", "-")), name
    if groff := shutil.which("groff"):  # it comes with man
        command = [groff, "-ww", "-man", "-Tutf8", "-z"]
        formatted = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert formatted.stderr == ""
