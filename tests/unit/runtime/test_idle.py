"""What a process of an idle stack does not hold: libraries that it needs for rare jobs only, or never."""

from __future__ import annotations

import subprocess
import sys

import pytest

NEVER = {  # by module that a process runs: what it does not import to wait for its first job
    "services.builder.__main__": ("http.client", "ssl", "asyncio", "urllib3"),
    "services.netdriver.__main__": ("asyncio", "ssl", "psutil", "pyroute2.ndb", "pyroute2.iproute", "unittest"),
}


@pytest.mark.parametrize("module", NEVER)
def test_an_idle_process_does_not_hold(module: str) -> None:
    script = f"import sys, {module}; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    loaded = answer.stdout.split()
    assert module in loaded
    assert [name for name in NEVER[module] if name in loaded] == []
