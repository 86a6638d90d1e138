"""Table: columns of text. A terminal's lines are cut to its width; elsewhere nothing is cut, wrapped or padded."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

__all__ = ["cut", "fit", "lines", "plain", "show", "terminal_width"]

GAP = "  "
MINIMUM = 16  # cells that a column which gives way keeps


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is; None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


Row = Sequence[str]


def show(header: Row, rows: Sequence[Row], *, gives_way: int = 0, least: Sequence[int] = ()) -> None:
    print("\n".join(lines(header, rows, width=terminal_width(), gives_way=gives_way, least=least)), flush=True)


def lines(
    header: Row, rows: Sequence[Row], *, width: int | None = None, gives_way: int = 0, least: Sequence[int] = ()
) -> list[str]:
    """Lay out rows in columns, each of ``least`` so many cells (none: as wide as its widest).

    ``width``: cells that a line may have; for them the column ``gives_way`` is cut first.
    """
    cells = [[plain(cell) for cell in row] for row in (header, *rows)]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*cells, strict=True)]
    widths = [max(pair) for pair in zip(widths, least or widths, strict=True)]
    if width is not None:
        excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
        widths[gives_way] -= min(max(excess, 0), max(widths[gives_way] - MINIMUM, 0))
    made = [
        GAP.join(set_cell_size(cut(cell, wide), wide) for cell, wide in zip(row, widths, strict=True)) for row in cells
    ]
    return [cut(line.rstrip(), width) if width is not None else line.rstrip() for line in made]


def fit(text: str, width: int | None) -> str:
    """Make a text one line of at most ``width`` cells (None: as long as it is)."""
    return plain(text) if width is None else cut(plain(text), width)


def cut(text: str, width: int) -> str:
    """Cut a text to so many cells, with an ellipsis if it was longer."""
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def plain(text: str) -> str:
    """Return a text whose control characters are visible, and not obeyed by the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
