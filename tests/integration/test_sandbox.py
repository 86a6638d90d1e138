"""What the sandbox keeps in, over the docker command; `tests/contract/test_sandbox.py` has the hostile images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api import run

pytestmark = pytest.mark.root


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_lies_on_the_host_is_roots_alone(stack: Any) -> None:
    """Setuid programs of images are for nobody on the host (CVE-2021-41091)."""
    container = stack.out("run", "-d", "--ipc", "shareable", "busybox", "sleep", "60")
    assert mode(stack.root) == 0o710
    assert mode(stack.root / "engine.db") == 0o600
    assert not mode(stack.root / "containers" / container) & 0o007
    for name in ("containers", "exits", "netns", "leases", f"containers/{container}"):
        assert mode(stack.run / name) == 0o700, name
    for path in stack.run.glob("*.sock"):
        assert mode(path) in (0o600, 0o660), path


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "unable to find user -1"),
        ("0:4294967295", "uids and gids must be in range"),
        ("nobody-here", "no matching entries in passwd file"),
    ],
)
def test_users_do_not_wrap(stack: Any, user: str, text: str) -> None:
    result = stack.docker("run", "--rm", "--user", user, "busybox", "id", check=False)
    assert (result.returncode, text in result.stderr) == (125, True), result.stderr


def test_a_working_directory_among_the_descriptors(stack: Any) -> None:
    (stack.directory / "mark").write_text("this is the host")
    for number in range(3, 12):
        script = f"cat {'../' * 10}{str(stack.directory / 'mark').lstrip('/')}"
        result = stack.docker(
            "run", "--rm", "-w", f"/proc/self/fd/{number}", "busybox", "sh", "-c", script, check=False
        )
        assert result.returncode != 0
        assert "this is the host" not in result.stdout


def test_a_process_has_its_three_descriptors(stack: Any) -> None:
    out = run(stack, "exec ls /proc/self/fd", {}, Tty=False)
    assert out.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


def test_all_groups_are_set(stack: Any) -> None:
    assert stack.out("run", "--rm", "--user", "77:88", "--group-add", "99", "busybox", "id", "-G") == "88 99"


def test_a_seccomp_profile_of_ones_own(stack: Any, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    command = ["busybox", "sh", "-c", "mkdir /tmp/x; unshare -m true && echo unconfined"]
    options = ["--cap-add", "SYS_ADMIN", "--security-opt", f"seccomp={profile}"]
    result = stack.docker("run", "--rm", *options, *command)
    assert (result.stdout, "Operation not permitted" in result.stderr) == ("unconfined\n", True)
    named = [("builtin", "2"), ("unconfined", "0")]
    for option, seccomp in named if stack.client >= 23 else named[1:]:
        options = ["--privileged", "--security-opt", f"seccomp={option}"]
        out = stack.out("run", "--rm", *options, "busybox", "cat", "/proc/1/status")
        assert f"Seccomp:\t{seccomp}" in out
    profile.write_text("{}")
    result = stack.docker("run", "--rm", "--security-opt", f"seccomp={profile}", "busybox", "true", check=False)
    assert "Decoding seccomp profile failed" in result.stderr
