"""Table: columns of text. A terminal's lines are cut to its width, and ids to their beginnings; elsewhere nothing is
cut, wrapped or padded.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size

__all__ = ["Layout", "cut", "fit", "lines", "plain", "short", "show", "terminal_width"]

GAP = "  "
MINIMUM = 16  # cells that a column which gives way keeps
ID = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32})\b")
ID_LENGTH = 12
LAST = 10  # cells that it gives way to have for the last one


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is; None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


Row = Sequence[str]


@dataclass(frozen=True)
class Layout:
    """How a table fits ``width`` cells (None: it need not).

    The column ``gives_way`` is cut first. If the last cell of a row still has no room, it is put on a line of its own
    (``spill``), or cut. ``least``: so many cells each column has at least.
    """

    width: int | None = None
    gives_way: int = 0
    spill: bool = False
    least: Sequence[int] = ()

    def widths(self, cells: Sequence[Row]) -> list[int]:
        found = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
        if self.width is None:
            return [max(pair) for pair in zip(found, self.least or found, strict=True)]
        room = self.width - len(GAP) * (len(found) - 1)
        needed = sum(found[:-1]) + (min(found[-1], LAST) if self.spill else found[-1])
        found[self.gives_way] -= min(max(needed - room, 0), max(found[self.gives_way] - MINIMUM, 0))
        return found


def show(header: Row, rows: Sequence[Row], layout: Layout | None = None) -> None:
    layout = replace(layout or Layout(), width=terminal_width())
    print("\n".join(lines(header, rows, layout)), flush=True)


def lines(header: Row, rows: Sequence[Row], layout: Layout | None = None) -> list[str]:
    """Lay out rows in columns, each as wide as its widest cell."""
    layout = layout or Layout()
    cells = [[_shown(cell, layout.width) for cell in row] for row in (header, *rows)]
    widths = layout.widths(cells)
    return [line for row in cells for line in _row(row, widths, layout)]


def _row(row: Row, widths: list[int], layout: Layout) -> Iterator[str]:
    begin = [set_cell_size(cut(cell, wide), wide) for cell, wide in zip(row[:-1], widths[:-1], strict=True)]
    line = GAP.join([*begin, row[-1]]).rstrip()
    if layout.width is None or cell_len(line) <= layout.width:
        yield line
    elif layout.spill:
        indent = " " * (widths[0] + len(GAP))
        yield cut(GAP.join(begin).rstrip(), layout.width)
        yield cut(indent + row[-1], layout.width)
    else:
        yield cut(line, layout.width)


def fit(text: str, width: int | None) -> str:
    """Make a text one line of at most ``width`` cells (None: as long as it is)."""
    return _shown(text, width) if width is None else cut(_shown(text, width), width)


def _shown(text: str, width: int | None) -> str:
    return plain(text) if width is None else short(plain(text))


def short(text: str) -> str:
    """Return a text with the beginnings of the ids in it: a person needs no more."""
    return ID.sub(lambda match: match[0][:ID_LENGTH], text)


def cut(text: str, width: int) -> str:
    """Cut a text to so many cells, with an ellipsis if it was longer."""
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def plain(text: str) -> str:
    """Return a text whose control characters are visible, and not obeyed by the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
