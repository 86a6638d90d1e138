"""The suites that `make test` does not run can be run: what they ask of others' fixtures is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SUITES = ("tests/conformance/compose", "tests/conformance/skopeo", "tests/outliving")


def test_every_fixture_is_there() -> None:
    command = [sys.executable, "-m", "pytest", "--setup-plan", "-q", "-p", "no:cacheprovider", *SUITES]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stdout[-2000:]
    assert "shared_stack" in planned.stdout
