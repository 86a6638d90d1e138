"""What all commands share: the options of the whole program, and the configuration and client they lead to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from services.ctl.presence import require_stack
from services.ctl.up import EX_CONFIG, fail
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.runtime.config import Config, ConfigError
from shared.runtime.loading import load_leniently

__all__ = ["File", "Json", "Root", "Run", "common", "settings", "the_client", "the_config", "the_run"]

Root = Annotated[Path | None, typer.Option(help="Directory of what must survive a reboot.")]
Run = Annotated[Path | None, typer.Option(help="Directory of sockets and of what runs.")]
File = Annotated[
    Path | None, typer.Option("--config", help="Configuration file (default /etc/dockyard/dockyard.toml).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

settings: dict[str, Any] = {}  # flags before the command
warned: set[str] = set()  # each is told once


def common(root: Root = None, run: Run = None, config: File = None) -> None:
    settings.update(root=root, run=run)
    if config is not None:
        os.environ["DOCKYARD_CONFIG"] = str(config.absolute())


def the_config() -> Config:
    """Return the configuration; a stack that runs is seen and stopped whatever its file says now: a warning tells."""
    try:
        config, wrong = load_leniently(settings, os.environ)
    except ConfigError as error:
        raise typer.Exit(fail(str(error), EX_CONFIG)) from None
    if wrong and wrong not in warned:
        warned.add(wrong)
        print(f"dockyard: the configuration is wrong: {wrong}; going on without that", file=sys.stderr)
    return config


def the_run(config: Config | None = None) -> Path:
    """Return the run directory of a stack that is up. Raises Unavailable."""
    run = (config or the_config()).run
    require_stack(run)
    return run


def the_client(config: Config | None = None) -> Client:
    """Return a client of the stack that is up. Raises Unavailable."""
    return Client(engine_endpoint(the_run(config)), "ctl")
