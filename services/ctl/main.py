"""`dockyard`: the operator's command.

As systemd starts it, ``dockyard up`` has no flags: then nothing of what parses them is loaded (typer, pydantic, rich:
a quarter of a second of processor time before the first process of the stack, and 20 MB for its whole life).
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    if sys.argv[1:] == ["up"]:
        from services.ctl.forking import begin, find_ini

        try:
            begun = begin(find_ini())  # first of all: it has the most to load
        except OSError:
            begun = None
        from services.ctl.up import up_without_flags

        sys.exit(up_without_flags(begun))
    from services.ctl.commands import run

    run()


if __name__ == "__main__":
    main()
