"""`make conformance`: docker-py's own integration tests, against a stack of their own. See docs/conformance.md.

The suite is not ours and not in this repository: ``DOCKERPY_SRC`` names a checkout of it. It runs in a Python
environment of its own (what it pins is old), in the stack's network namespace, with a home of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance import stage
from tests.conformance.stage import run_inside, running_stack
from tests.conformance.verdict import FAILED, Verdict, judge, outcomes, read_known
from tests.integration.conftest import Stack
from tests.registries import docker_registry

KNOWN = Path(__file__).with_name("dockerpy-known.txt")
VERSION = "7.2.0"
FILES = (
    "api_build_test.py",
    "api_client_test.py", "api_container_test.py", "api_exec_test.py", "api_healthcheck_test.py", "api_image_test.py",
    "api_network_test.py", "api_volume_test.py", "client_test.py", "context_api_test.py", "errors_test.py",
    "models_containers_test.py", "models_images_test.py", "models_networks_test.py", "models_resources_test.py",
    "models_volumes_test.py", "regression_test.py",
)  # fmt: skip
IMAGES = ("alpine:latest", "alpine:3.10")  # besides busybox:latest
HELLO = "hello-world:latest"  # for the mirror alone
MIRROR = "127.0.0.1:5000"
# What the tests use of alpine that the built-in image does not have: a user and a directory.
ALPINE = "echo postgres:x:70:70:postgres:/var/lib/postgresql:/bin/sh >> /etc/passwd; mkdir -p /var/opt"
TEST_TIMEOUT = 120  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("files", nargs="*", default=FILES, help="files of the suite (default: those in scope)")
    parser.add_argument("-k", default="", help="pytest's choice by name; the result is shown and not judged")
    options = parser.parse_args()
    source = Path(os.environ.get("DOCKERPY_SRC") or "/nonexistent")
    if not (source / "tests" / "integration" / "conftest.py").is_file():
        print(f"make conformance: set DOCKERPY_SRC to a checkout of docker-py {VERSION}", file=sys.stderr)
        return 2
    python = environment(source)
    with (
        running_stack(DOCKYARD_REGISTRY_MIRRORS=f"http://{MIRROR}") as stack,
        registry(stack),
        shared_mount(stack.directory / "tmp") as temporary,
    ):
        load_images(stack)
        report = stack.directory / "report.xml"
        run_suite(stack, python, source, suite_arguments(options, report), temporary)
        found = outcomes(report)
    counts = {outcome: list(found.values()).count(outcome) for outcome in sorted(set(found.values()))}
    print("conformance:", ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if options.k:
        return int(FAILED in counts)
    verdict = judge(found, read_known(KNOWN.read_text()), options.files)
    show(verdict)
    return int(not verdict.good)


def environment(source: Path) -> Path:
    """Return the Python of an environment with docker-py and its test requirements."""
    wanted = hashlib.sha256((source / "pyproject.toml").read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory() as directory:  # building writes into the tree
        copy = Path(directory) / "docker-py"
        shutil.copytree(source, copy, symlinks=True)
        requirements = [f"{copy}[dev,ssh,websockets]"]
        return stage.environment("conformance", wanted, requirements, SETUPTOOLS_SCM_PRETEND_VERSION=VERSION)


@contextmanager
def registry(stack: Stack) -> Iterator[None]:
    """Run what is Docker Hub's mirror to the stack: the suite pulls from the Hub."""
    assert stack.process is not None
    inside = ["nsenter", "--net", "--target", str(stack.process.pid)]
    with docker_registry(stack.directory / "registry", port=int(MIRROR.rpartition(":")[2]), inside=inside):
        yield


def load_images(stack: Stack) -> None:
    """Make the images that the suite wants of the built-in one, and push them to the mirror."""
    stack.docker("run", "--name", "alpine", "busybox", "sh", "-c", ALPINE)
    for image in IMAGES:
        stack.docker("commit", "--change", 'CMD ["/bin/sh"]', "alpine", image)
    stack.docker("commit", "--change", 'CMD ["echo", "hello"]', "alpine", HELLO)
    stack.docker("rm", "alpine")
    for image in ("busybox:latest", *IMAGES, HELLO):
        stack.docker("tag", image, f"{MIRROR}/library/{image}")
        stack.docker("push", f"{MIRROR}/library/{image}")
        stack.docker("rmi", f"{MIRROR}/library/{image}")
    stack.docker("rmi", HELLO)


@contextmanager
def shared_mount(directory: Path) -> Iterator[Path]:
    """Make a directory from which mounts propagate, whatever the host's root is: the suite binds it ``rshared``."""
    directory.mkdir()
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "--make-rshared", directory], check=True)
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def suite_arguments(options: argparse.Namespace, report: Path) -> list[str]:
    chosen = ["-k", options.k] if options.k else []
    settings = ["-p", "no:cacheprovider", f"--timeout={TEST_TIMEOUT}", f"--junitxml={report}", "-v"]
    return [*settings, *chosen, *(f"tests/integration/{file}" for file in options.files)]


def run_suite(stack: Stack, python: Path, source: Path, arguments: list[str], temporary: Path) -> None:
    """Run pytest in the stack's network namespace; the report is all that counts."""
    command = [str(python), "-m", "pytest", *arguments]
    run_inside(stack, command, source, stack.directory / "home", TMPDIR=str(temporary))


def show(verdict: Verdict) -> None:
    for title, names in (
        ("fails, and is not listed", verdict.failed),
        ("is listed, and does not fail", verdict.mended),
        ("is listed, and there is no such test", verdict.missing),
    ):
        for name in names:
            print(f"conformance: {title}: {name}")
    if verdict.good:
        print(f"conformance: as {KNOWN.name} says")


if __name__ == "__main__":
    sys.exit(main())
