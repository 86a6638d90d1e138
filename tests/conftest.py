"""What all tests need of the process they run in."""

from __future__ import annotations

import signal

# A shell that runs the suite in the background has SIGINT ignored, and programs that are started inherit that: then no
# test could interrupt one. A signal that has a handler here has its default in them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
