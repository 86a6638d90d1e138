"""`make conformance`: suites and clients that others wrote, against stacks of their own. See docs/conformance.md.

Every suite says what it came to; what was not run is said last, and is no success.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.composing import major, programs
from tests.conformance import dockerpy, testcontainers

OK, FAILED, NOT_RUN = 0, 1, 2
COMPOSE = Path(__file__).with_name("compose")
MAJORS = (1, 2)  # of Compose


def main() -> int:
    """Return 0 if all passed, 1 if something failed, 2 if something was not run."""
    if len(sys.argv) > 1:  # files of docker-py's suite
        return dockerpy.main()
    verdicts = {"docker-py": docker_py(), "Compose": compose(), "testcontainers": testcontainers.main()}
    words = {OK: "passed", NOT_RUN: "NOT RUN, or not all of it: see above"}
    for name, status in verdicts.items():
        print(f"conformance: {name}: {words.get(status, 'FAILED')}")
    return FAILED if {*verdicts.values()} - {OK, NOT_RUN} else max(verdicts.values())


def docker_py() -> int:
    if not os.environ.get("DOCKERPY_SRC"):
        print(f"conformance: docker-py: set DOCKERPY_SRC to a checkout of docker-py {dockerpy.VERSION}")
        return NOT_RUN
    return dockerpy.main()


def compose() -> int:
    """Each version of Compose that is there runs the projects."""
    there = {major(program): program for program in programs()}
    for version, program in there.items():
        print(f"conformance: Compose {version} is {program}", flush=True)
    missing = [version for version in MAJORS if version not in there]
    for version in missing:
        print(f"conformance: there is no Compose {version}: its projects are not run (COMPOSE=/path/to/docker-compose)")
    if not there:
        return NOT_RUN
    status = subprocess.run([sys.executable, "-m", "pytest", str(COMPOSE)], check=False).returncode
    return status or (NOT_RUN if missing else OK)


if __name__ == "__main__":
    sys.exit(main())
