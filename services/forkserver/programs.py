"""Programs: what circus.ini runs, loaded ahead: all modules, and the code that each begins with."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType

from shared.runtime.birth import module_of

__all__ = ["Program", "listed", "load"]

COMMAND = re.compile(r"^cmd\s*=\s*(.*)$", re.MULTILINE)
Program = tuple[ModuleSpec, CodeType]


def listed(ini: Path) -> list[str]:
    """Return the modules that a circus.ini runs, in its order. What it gets wrong costs time, nothing else."""
    try:
        commands = COMMAND.findall(ini.read_text())
    except (OSError, UnicodeDecodeError):
        return []
    return list(dict.fromkeys(module for command in commands if (module := module_of(command.split()))))


def load(name: str) -> Program | None:
    """Import all that ``python -m NAME`` would, but run nothing; None if that fails: who executes it will see why."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = importlib.util.find_spec(name)
        importlib.import_module(name)
        code = spec.loader.get_code(name) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]
    except Exception as error:
        print(f"dockyard forkserver: {name} cannot be loaded: {error!r}", file=sys.stderr)
        return None
    return None if spec is None or code is None else (spec, code)
