"""Flags: `dockyard up`, whose options are the settings of `Config`, each by all its names."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from services.ctl.forking import find_ini
from services.ctl.up import EX_CONFIG, fail, up, up_checked, up_detached
from shared.runtime.config import NAMES, PREFIX, SETTINGS, Config, ConfigError
from shared.runtime.loading import load_config
from shared.runtime.settings import Setting, to_text

__all__ = ["UpCommand", "up_command"]


def _switches() -> dict[str, str]:
    """Map each flag of a boolean setting to what turns the setting off."""
    found: dict[str, str] = {}
    for one in (one for one in SETTINGS.values() if one.kind is bool):
        flags = [f"--{name.replace('_', '-')}" for name in (one.name, *one.also)] + [f"-{one.letter}"]
        found |= dict.fromkeys(flags, f"--no-{one.key}")
    return found


SWITCHES = _switches()
NO = ("false", "no", "0", "off")
YES = ("true", "yes", "1", "on")


class UpCommand(TyperCommand):
    """Takes ``--icc=false``, as the 2014 daemon did, beside ``--no-icc``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_modern(argument) for argument in args])


def _modern(argument: str) -> str:
    flag, _, value = argument.partition("=")
    if flag in SWITCHES and value.lower() in YES:
        return flag
    return SWITCHES[flag] if flag in SWITCHES and value.lower() in NO else argument


def up_command(
    common: Mapping[str, Any],
    run: Callable[[Config, Path], int] = up,
    run_detached: Callable[[Config, Path], int] = up_detached,
) -> Callable[..., None]:
    """Make the function behind `dockyard up`; ``common`` holds the flags that were given before the verb."""

    def start(detach: bool, check: bool, config: Path | None, circus_ini: Path | None, **flags: Any) -> None:
        """Start the stack. A flag wins over DOCKYARD_<SETTING>, that over dockyard.toml, that over the default."""
        if config is not None:
            os.environ["DOCKYARD_CONFIG"] = str(config.absolute())
        given = {name: value for name, value in flags.items() if value not in (None, [])}
        try:
            settings = load_config({**common, **given}, os.environ)
        except ConfigError as error:
            raise typer.Exit(fail(str(error), EX_CONFIG)) from None
        if detach:
            _leave_in_environment(settings, {**common, **given})
        begin = up_checked if check else run_detached if detach else run
        raise typer.Exit(begin(settings, (circus_ini or find_ini()).absolute()))

    start.__signature__ = inspect.Signature([*_own(), *map(_parameter, SETTINGS.values())])  # type: ignore[attr-defined]
    return start


def _leave_in_environment(settings: Config, given: Mapping[str, Any]) -> None:
    """Have what flags said in the environment, where it wins over what is there of the same setting."""
    wanted = {name for name, value in given.items() if value is not None}
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        if NAMES.get(variable.removeprefix(PREFIX).lower()) in wanted:
            del os.environ[variable]
    os.environ.update({PREFIX + name.upper(): to_text(getattr(settings, name)) for name in wanted})


def _own() -> list[inspect.Parameter]:
    """What is no setting."""
    detach = typer.Option("--detach", "-d", help="Return when the stack is ready.")
    check = typer.Option("--check", help="Check configuration and host, and start nothing.")
    config = typer.Option("--config", help="Configuration file (default /etc/dockyard/dockyard.toml).")
    circus_ini = typer.Option("--circus-ini", help="Which processes run.")
    return [
        _keyword("detach", Annotated[bool, detach], False),
        _keyword("check", Annotated[bool, check], False),
        _keyword("config", Annotated[Path | None, config]),
        _keyword("circus_ini", Annotated[Path | None, circus_ini]),
    ]


def _parameter(one: Setting) -> inspect.Parameter:
    names = [name.replace("_", "-") for name in (one.name, *one.also)]
    declared = [f"--{name}/--no-{name}" if one.kind is bool else f"--{name}" for name in names]
    if one.letter:
        declared.append(f"-{one.letter}")
    option = typer.Option(
        *declared,
        help=escape(f"{one.help} [default: {to_text(one.default)}]" if to_text(one.default) else one.help),
        metavar=None if one.kind is bool else _metavar(one),
        rich_help_panel=one.section,
    )
    kind: Any = bool if one.kind is bool else list[str] if one.is_list else str
    return _keyword(one.name, Annotated[kind | None, option])


def _metavar(one: Setting) -> str:
    return {Path: "PATH", Path | None: "PATH", int: "NUMBER", float: "SECONDS"}.get(one.kind, "TEXT")


def _keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
