"""The long ordeal: `make outliving` (SEED=…, MINUTES=…). It prints its seed; the same seed makes the same plan."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.outliving.host import Host
from tests.outliving.ordeal import Ordeal

pytestmark = pytest.mark.root

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
MINUTES = float(os.environ.get("MINUTES") or 20)
MEMBERS = int(os.environ.get("MEMBERS") or 50)


def test_whatever_befalls_the_stack_its_promises_hold() -> None:
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} {line}", file=sys.__stderr__, flush=True)

    say(f"SEED={SEED} MINUTES={MINUTES:g} MEMBERS={MEMBERS}")
    host = Host(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp"))).start()
    say(f"log {host.directory}/log")
    ordeal = Ordeal(host, random.Random(SEED), say)
    try:
        host.dockyard("busybox")
        ordeal.gather(MEMBERS)
        ordeal.check()
        while time.monotonic() - began < MINUTES * 60:
            ordeal.let_some_end(spread=15)
            ordeal.live(lambda step: ordeal.random_fate())
            ordeal.check()
    except BaseException as error:
        say(f"SEED={SEED} failed: {error}")
        if os.environ.get("KEEP"):
            host.directory.with_suffix(".log").write_text(host.log())
            os._exit(1)
        log = host.directory.with_suffix(".log")
        log.write_text(host.log())
        say(f"the stack's log is kept: {log}")
        raise
    finally:
        ordeal.disperse()
        host.close()
