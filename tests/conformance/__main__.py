"""`make conformance`: suites and clients that others wrote, against stacks of their own. See docs/conformance.md.

Every suite says what it came to; what was not run is said last, and is no success.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.composing import major, programs
from tests.conformance import dockerpy, testcontainers

OK, FAILED, NOT_RUN = 0, 1, 2
COMPOSE = Path(__file__).with_name("compose")
MAJORS = (1, 2)  # of Compose
SKOPEO = Path(__file__).with_name("skopeo")
TOO_OLD = "1.9"  # of skopeo (Debian 12): it asks for API 1.22, which engines from Docker 25 on refuse as we do


def main() -> int:
    """Return 0 if all passed, 1 if something failed, 2 if something was not run."""
    if len(sys.argv) > 1:  # files of docker-py's suite
        return dockerpy.main()
    verdicts = {
        "docker-py": docker_py(), "Compose": compose(), "testcontainers": testcontainers.main(), "skopeo": skopeo(),
    }  # fmt: skip
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


def skopeo() -> int:
    if shutil.which("skopeo") is None:
        print("conformance: there is no skopeo: its copies are not run")
        return NOT_RUN
    version = subprocess.run(["skopeo", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    print(f"conformance: skopeo is {version}", flush=True)
    if version.startswith(f"{TOO_OLD}."):
        print(f"conformance: skopeo {TOO_OLD} asks for an API older than ours: its copies are not run")
        return NOT_RUN
    return subprocess.run([sys.executable, "-m", "pytest", str(SKOPEO)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
