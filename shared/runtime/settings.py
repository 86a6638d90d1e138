"""Setting: what a field of `Config` declares. File, environment, flags and documentation are made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

__all__ = ["Setting", "convert", "setting", "settings_of", "to_text"]

KEY = "dockyard.setting"


@dataclass(frozen=True)
class Setting:
    """``check`` gets the value, or each item of a list, unless it is empty; it raises ValueError."""

    name: str
    kind: Any
    default: Any
    help: str
    section: str  # the heading under which it stands
    also: tuple[str, ...]  # other names
    letter: str  # of the short flag; empty: none
    check: Callable[[Any], object] | None

    @property
    def key(self) -> str:
        """Return its name in dockyard.toml."""
        return self.name.replace("_", "-")

    @property
    def is_list(self) -> bool:
        return isinstance(self.default, tuple)


def setting(
    default: Any,
    text: str,
    *,
    section: str = "",
    also: tuple[str, ...] = (),
    letter: str = "",
    check: Callable[[Any], object] | None = None,
) -> Any:
    """Declare a dataclass field with what `Setting` tells; ``section`` opens one that lasts until the next."""
    about = {"help": text, "section": section, "also": also, "letter": letter, "check": check}
    return dataclasses.field(default=default, metadata={KEY: about})


def settings_of(cls: type[Any]) -> list[Setting]:
    """List the fields of ``cls`` that are settings, in the order of their declaration."""
    hints, section, found = get_type_hints(cls), "", []
    for field in dataclasses.fields(cls):
        if KEY in field.metadata:
            about = dict(field.metadata[KEY])
            section = about.pop("section") or section
            found.append(
                Setting(name=field.name, kind=hints[field.name], default=field.default, section=section, **about)
            )
    return found


def convert(kind: Any, value: Any) -> Any:
    """Make what TOML or a text gives a value of ``kind``; a comma separates a list's items. Raises ValueError."""
    if kind is bool:
        return _boolean(value)
    if kind is str:
        return _string(value)
    if kind is Path:
        if not (text := _string(str(value) if isinstance(value, Path) else value)):
            raise ValueError("a path is wanted")
        return Path(text).absolute()
    if kind == Path | None:
        return convert(Path, value) if value not in ("", None) else None
    if kind in (int, float):
        if isinstance(value, bool):
            raise ValueError("a number is wanted")
        return kind(value)
    if not isinstance(value, str | list | tuple):
        raise ValueError(f"a list is wanted, not {type(value).__name__}")
    item = int if kind == tuple[int, ...] else _string
    texts = [value] if isinstance(value, str) else value
    return tuple(item(part.strip()) for text in texts for part in _string(text).split(",") if part.strip())


def to_text(value: Any) -> str:
    """Write a value as `convert` reads it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a string is wanted, not {type(value).__name__}")
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else None
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"true or false is wanted, not {value!r}")
