"""netdriver: bridges, endpoints, ports, rules, names.

Of pyroute2 it has the message classes and constants alone. ``pyroute2/__init__.py`` imports the whole library (NDB,
conntrack, plan9, asyncio, psutil …): 12 MB that this process would hold for ever, and most of the time it takes to
start. So that package is entered here as it is on disk, without that file having been run; its submodules are then
imported as ever.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec


def _enter(name: str) -> None:
    if name not in sys.modules and (spec := find_spec(name)) is not None:
        sys.modules[name] = module_from_spec(spec)


_enter("pyroute2")
