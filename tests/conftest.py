"""What all tests need of the process they run in."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# A shell that runs the suite in the background has SIGINT ignored, and programs that are started inherit that: then no
# test could interrupt one. A signal that has a handler here has its default in them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes, or making one up, says how busy the machine is: no failure.
# The rest stays as it was: in CI nothing is left to chance.
present = settings.get_profile(settings.get_current_profile_name())
settings.register_profile("timeless", present, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("timeless")
