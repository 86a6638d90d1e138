"""testcontainers for Python, as installed from the index, against a stack of its own: ``testcontainers_suite.py``.

What reaps after a program that died (ryuk) is an image of the internet: here it is one made of the built-in image, the
docker command, and a script that does what ryuk does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conformance.stage import environment, run_inside, running_stack
from tests.integration.conftest import Stack

REQUIREMENTS = ["testcontainers==4.15.0", "pytest==9.1.1"]
SUITE = Path(__file__).with_name("testcontainers_suite.py")
REAPER = "local/ryuk:latest"
SERVE = """#!/bin/sh
echo "$(date) Started!"
exec nc -ll -p 8080 -e /session
"""
# one connection: filters come, each is acknowledged; when it ends, all that they find goes, after the grace asked for
SESSION = """#!/bin/sh
filters=
while read -r line; do
  filters="$filters $(printf %s "$line" | tr -d '\\r')"
  echo ACK
done
sleep 1
export DOCKER_HOST=unix:///var/run/docker.sock
for one in $filters; do
  found=$(docker ps -aq --filter "$one"); [ -z "$found" ] || docker rm -fv $found
  found=$(docker network ls -q --filter "$one"); [ -z "$found" ] || docker network rm $found
done
"""


def main() -> int:
    python = environment("testcontainers", " ".join(REQUIREMENTS), REQUIREMENTS)
    with running_stack() as stack:
        make_reaper(stack)
        return run_inside(
            stack,
            [str(python), "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", "--noconftest", "-v", str(SUITE)],
            stack.directory,
            stack.directory / "home",
            RYUK_CONTAINER_IMAGE=REAPER,
        )


def make_reaper(stack: Stack) -> None:
    stack.docker("create", "--name", "reaper", "busybox", "/serve")
    files = stack.directory / "reaper"
    for program in (shutil.which("docker"), *libraries(str(shutil.which("docker")))):
        target = files / ("usr/bin/docker" if program == shutil.which("docker") else str(program).lstrip("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(program), target)
    for name, text in (("serve", SERVE), ("session", SESSION)):
        (files / name).write_text(text)
        (files / name).chmod(0o755)
    stack.docker("cp", f"{files}/.", "reaper:/")
    stack.docker("commit", "reaper", REAPER)
    stack.docker("rm", "reaper")


def libraries(program: str) -> list[str]:
    """Return the shared libraries of a program, none if it is static (ldd(1))."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", said)


if __name__ == "__main__":
    sys.exit(main())
