"""docker context: the stack by a name of its own instead of DOCKER_HOST."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def contextual(stack: Any, tmp_path: Path) -> Any:
    """Run a docker command without DOCKER_HOST, and with a configuration of its own."""
    environ = {key: value for key, value in stack.environ.items() if key != "DOCKER_HOST"}
    environ["DOCKER_CONFIG"] = str(tmp_path)

    def run(*words: str) -> str:
        done = subprocess.run(["docker", *words], env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_create_use_and_remove(stack: Any, contextual: Any) -> None:
    host = stack.environ["DOCKER_HOST"]
    contextual("context", "create", "here", "--docker", f"host={host}", "--description", "a stack")
    assert (
        f"here|{host}|a stack"
        in contextual("context", "ls", "--format", "{{.Name}}|{{.DockerEndpoint}}|{{.Description}}").splitlines()
    )
    container = contextual("--context", "here", "run", "-d", "--name", "box", "busybox", "sleep", "1000")
    contextual("context", "use", "here")
    assert contextual("context", "ls", "--format", "{{if .Current}}{{.Name}}{{end}}").strip() == "here"
    assert contextual("ps", "-q", "--no-trunc") == container
    assert host in contextual("context", "inspect", "here")
    contextual("rm", "-f", "box")
    contextual("context", "use", "default")
    contextual("context", "rm", "here")
    assert "here" not in contextual("context", "ls", "-q").split()
