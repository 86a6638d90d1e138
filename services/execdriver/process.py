"""process.json: what an exec runs as (OCI runtime-spec §process), after the container's own configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from services.execdriver.bundle import Bundle
from services.execdriver.capabilities import capabilities
from services.execdriver.spec import environment, identity
from shared.protocol import InvalidArgument, RuntimeExec
from shared.runtime.user import resolve_user

__all__ = ["build_process"]


class _Spec(msgspec.Struct):
    """The part of config.json that an exec inherits."""

    process: dict[str, Any]


def build_process(job: RuntimeExec, container: Bundle, root: Path) -> dict[str, Any]:
    """Build it: rlimits, no-new-privileges and capabilities are the container's. ``root`` as the container sees it.

    Errors: InvalidArgument (no such user, a relative working directory).
    """
    own = msgspec.json.decode((container.directory / "config.json").read_bytes(), type=_Spec).process
    user = resolve_user(root, job.user, job.group_add)
    if not job.working_dir.startswith("/"):
        raise InvalidArgument("OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown")
    granted = capabilities([], [], privileged=True) if job.privileged else own["capabilities"]["bounding"]
    process = {
        **own,
        **identity(user, granted),
        "terminal": job.tty,
        "args": job.args,
        "env": environment(job.env, job.hostname, user, tty=job.tty),
        "cwd": job.working_dir,
    }
    process.pop("consoleSize", None)
    if job.tty and job.console_size and any(job.console_size):
        height, width = job.console_size
        process["consoleSize"] = {"height": height, "width": width}
    return process
