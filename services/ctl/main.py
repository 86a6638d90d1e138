"""`dockyard`: the operator's command.

As systemd starts it, ``dockyard up`` has no flags: then nothing of what parses them is loaded (typer, pydantic, rich:
a quarter of a second of processor time before the first process of the stack, and 20 MB for its whole life).
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    if sys.argv[1:] == ["up"]:
        from services.ctl.up import up_without_flags

        sys.exit(up_without_flags())
    from services.ctl.commands import run

    run()


if __name__ == "__main__":
    main()
