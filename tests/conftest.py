"""What all tests need of the process they run in."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# A shell that runs the suite in the background has SIGINT ignored, and programs that are started inherit that: then no
# test could interrupt one. A signal that has a handler here has its default in them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes, or making one up, says how busy the machine is: no failure. And the examples are the same
# at each run, for whoever changed nothing has broken nothing; EXPLORE=1 (`make conformance`) has others each time.
settings.register_profile(
    "ours", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=not os.environ.get("EXPLORE")
)
settings.load_profile("ours")
