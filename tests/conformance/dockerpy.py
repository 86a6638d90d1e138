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

from tests.conformance.verdict import FAILED, Verdict, judge, outcomes, read_known
from tests.integration.conftest import Stack
from tests.registries import docker_registry

PROJECT = Path(__file__).parents[2]
KNOWN = Path(__file__).with_name("dockerpy-known.txt")
VENV = PROJECT / ".venv-conformance"
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
    with running_stack() as stack, registry(stack), shared_mount(stack.directory / "tmp") as temporary:
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
    """Return the Python of an environment with docker-py and its test requirements; made again when those change."""
    python, stamp = VENV / "bin" / "python", VENV / "installed"
    wanted = hashlib.sha256((source / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"installing docker-py and its test requirements into {VENV.name}")
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    with tempfile.TemporaryDirectory() as directory:  # building writes into the tree
        copy = Path(directory) / "docker-py"
        shutil.copytree(source, copy, symlinks=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{copy}[dev,ssh,websockets]"],
            env={**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": VERSION},
            check=True,
        )
    stamp.write_text(wanted)
    return python


@contextmanager
def running_stack() -> Iterator[Stack]:
    """A stack on a host of its own, as the integration tests have it; nothing of it may be left."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp")), DOCKYARD_REGISTRY_MIRRORS=f"http://{MIRROR}")
    try:
        stack.start()
        yield stack
    finally:
        volumes = [] if stack.ended() else stack.out("volume", "ls", "-q").split()
        ids = [] if stack.ended() else stack.out("ps", "-aq").split()
        if ids:
            stack.docker("rm", "-f", *ids)
        if volumes:
            stack.docker("volume", "rm", "-f", *volumes)
        stack.close()


@contextmanager
def registry(stack: Stack) -> Iterator[None]:
    """Run what is Docker Hub's mirror to the stack: the suite pulls from the Hub."""
    assert stack.process is not None
    inside = ["nsenter", "--net", "--target", str(stack.process.pid)]
    with docker_registry(stack.directory / "registry", port=int(MIRROR.rpartition(":")[2]), inside=inside):
        yield


def load_images(stack: Stack) -> None:
    """Make the images that the suite wants of the built-in one, and push them to the mirror."""
    stack.dockyard("busybox")
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
    assert stack.process is not None
    home = stack.directory / "home"
    (home / ".docker").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text("{}")  # without one the suite writes into its working directory
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LC_ALL", "TERM"}}
    subprocess.run(
        ["nsenter", f"--net=/proc/{stack.process.pid}/ns/net", str(python), "-m", "pytest", *arguments],
        cwd=source,
        env={
            **kept,
            "DOCKER_HOST": stack.environ["DOCKER_HOST"],
            "HOME": str(home),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(temporary),
        },
        check=False,
    )


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
