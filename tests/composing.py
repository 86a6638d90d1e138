"""Compose, as a user runs it: the programs that this machine has, and projects to run with them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Stack

__all__ = ["Make", "Project", "major", "programs", "project", "pytest_generate_tests", "since"]

# where Debian, Docker's packages and a user's own directory have the plugin of version 2
PLUGINS = (
    "/usr/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    str(Path("~/.docker/cli-plugins").expanduser()),
)
TIMEOUT = 120.0  # seconds for one command
NUMBER = "com.docker.compose.container-number"


@functools.cache
def programs() -> tuple[str, ...]:
    """Return the paths of all Compose programs, one a major version; ``COMPOSE`` names some, with colons."""
    candidates = [*filter(None, os.environ.get("COMPOSE", "").split(":")), shutil.which("docker-compose")]
    candidates += [f"{directory}/docker-compose" for directory in PLUGINS]
    found: dict[int, str] = {}
    for path in candidates:
        if path and os.access(path, os.X_OK):
            found.setdefault(major(path), path)
    return tuple(found[version] for version in sorted(found))


@functools.cache
def major(program: str) -> int:
    """Return the major version of a Compose program."""
    answer = subprocess.run([program, "version", "--short"], capture_output=True, text=True, timeout=60, check=True)
    return int(answer.stdout.strip().lstrip("v").split(".")[0])


def since(version: int) -> Callable[[Any], Any]:
    """Mark a test as one of what Compose has from a major version on: an older one does not get it."""

    def mark(function: Any) -> Any:
        function.since = version
        return function

    return mark


class Project:
    """A directory with a ``docker-compose.yml``, on a stack."""

    def __init__(self, stack: Stack, program: str, directory: Path, services: str | dict[str, Any], **top: Any) -> None:
        """``services``: as in the file; ``top``: the file's other keys."""
        self.stack, self.program, self.directory = stack, program, directory
        self.name = directory.name.lower()
        directory.mkdir()
        self.write(services, **top)

    def write(self, services: str | dict[str, Any], **top: Any) -> None:
        """JSON is YAML."""
        version = {"version": "3.9"} if major(self.program) == 1 and "version" not in top else {}
        text = json.dumps({**version, "services": services, **top}, indent=1)
        (self.directory / "docker-compose.yml").write_text(text)

    def file(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def __call__(self, *args: str, check: bool = True, timeout: float = TIMEOUT, **options: Any) -> Any:
        """Run a command of Compose in the project's directory; returns its CompletedProcess."""
        environ = {**self.stack.environ, "COMPOSE_PROJECT_NAME": self.name, "COMPOSE_HTTP_TIMEOUT": "60"}
        answer = subprocess.run(
            [self.program, *args],
            cwd=self.directory,
            env={**environ, **options.pop("environ", {})},
            capture_output=True,
            text=True,
            stdin=options.pop("stdin", subprocess.DEVNULL) if "input" not in options else None,
            timeout=timeout,
            check=False,
            **options,
        )
        said = f"{answer.stdout[-3000:]}{answer.stderr[-3000:]}"
        assert not check or answer.returncode == 0, f"compose {' '.join(args)}: {answer.returncode} {said}"
        return answer

    def out(self, *args: str, **options: Any) -> str:
        return str(self(*args, **options).stdout).strip()

    def popen(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.program, *args],
            cwd=self.directory,
            env={**self.stack.environ, "COMPOSE_PROJECT_NAME": self.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ids(self, service: str = "", *, all_: bool = False) -> list[str]:
        """Return the ids of the project's containers, or of one service's, by number."""
        options = ["-aq"] if all_ else ["-q"]
        filters = [f"label=com.docker.compose.project={self.name}"]
        filters += [f"label=com.docker.compose.service={service}"] if service else []
        chosen = [word for one in filters for word in ("--filter", one)]
        found = self.stack.out("ps", *options, "--no-trunc", *chosen).split()
        return sorted(found, key=lambda id_: int(self.inspect(id_)["Config"]["Labels"][NUMBER]))

    def inspect(self, container: str) -> dict[str, Any]:
        answer: list[dict[str, Any]] = json.loads(self.stack.out("inspect", container))
        return answer[0]

    def container(self, service: str) -> dict[str, Any]:
        (found,) = self.ids(service, all_=True)
        return self.inspect(found)

    def down(self, *args: str) -> None:
        self("down", "--timeout", "0", "--volumes", "--remove-orphans", *args)


Make = Callable[..., Project]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with each version that has what it is about; with none, pytest says that it was skipped."""
    if "compose" in metafunc.fixturenames:
        lowest = getattr(metafunc.function, "since", 1)
        chosen = [program for program in programs() if major(program) >= lowest]
        metafunc.parametrize("compose", chosen, ids=[f"v{major(program)}" for program in chosen])


@pytest.fixture
def project(stack: Stack, compose: str, tmp_path: Path) -> Iterator[Make]:
    """Make projects; at the end each is taken down, and nothing of it may be left."""
    made: list[Project] = []

    def make(services: dict[str, Any], name: str = "app", **top: Any) -> Project:
        made.append(Project(stack, compose, tmp_path / name, services, **top))
        return made[-1]

    yield make
    for one in made:
        one.down()
        assert one.ids(all_=True) == []
    networks = stack.out("network", "ls", "-q", "--filter", "type=custom").split()
    assert networks == [], "a network is left"
