"""docker run --runtime: crun and runc side by side on one stack, whichever is the default."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root


def test_each_container_has_its_own(stack: Any) -> None:
    """runc is there by `make test`."""
    assert {"crun", "runc"} <= set(json.loads(stack.out("info", "--format", "{{json .Runtimes}}")))
    for name in ("crun", "runc"):
        stack.docker("run", "-d", "--init", "--runtime", name, "--name", name, "busybox", "sleep", "1000")
        assert stack.out("inspect", "-f", "{{.HostConfig.Runtime}}", name) == name
        assert (stack.run / "oci" / stack.out("inspect", "-f", "{{.Id}}", name)).is_dir()
    (driver,) = stack.pids("execdriver")
    os.kill(driver, signal.SIGKILL)  # what it knew of them is on disk
    until(lambda: stack.pids("execdriver") not in ([], [driver]))
    for name in ("crun", "runc"):
        assert stack.out("exec", name, "echo", name) == name
        stack.docker("pause", name)
        stack.docker("unpause", name)
        failed = stack.docker("exec", name, "nope", check=False)
        assert (failed.returncode, "executable file not found in $PATH" in failed.stderr + failed.stdout) == (127, True)
        stack.docker("restart", "-t", "0", name)
        assert stack.out("exec", name, "echo", name) == name
        stack.docker("rm", "-f", name)
    assert not list((stack.run / "oci").iterdir())
