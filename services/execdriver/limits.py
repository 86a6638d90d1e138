"""Few open files: RLIMIT_NOFILE (getrlimit(2)) of a container that would be too low for the runtime while it makes it.

crun takes the limits of a container for itself, and opens some thirty files after that. So the runtime is not told, and
the limit is set on the container's init when it is made, before it runs.
"""

from __future__ import annotations

import resource
from typing import Any

import msgspec

from services.execdriver.bundle import Bundle
from shared.protocol import DockyardError

__all__ = ["for_the_runtime", "set_late"]

NEEDED = 64  # open files, more than the runtime ever has
KIND = "RLIMIT_NOFILE"


def _withheld(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [limit for limit in spec["process"].get("rlimits", []) if limit["type"] == KIND and limit["soft"] < NEEDED]


def for_the_runtime(spec: dict[str, Any]) -> dict[str, Any]:
    """Return an OCI configuration without what the runtime would not survive."""
    withheld = _withheld(spec)
    if not withheld:
        return spec
    process = spec["process"]
    left = [limit for limit in process["rlimits"] if limit not in withheld]
    return {**spec, "process": {**process, "rlimits": left}}


def set_late(bundle: Bundle, pid: int, spec: dict[str, Any]) -> None:
    """Set what was withheld on a container's init, and have its execs and probes find it. Errors: DockyardError."""
    for limit in _withheld(spec):
        hard = min(limit["hard"], 2**63 - 1)
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit["soft"], hard))
        except (OSError, ValueError) as error:
            raise DockyardError(f"the limit of open files cannot be set to {limit['soft']}: {error}") from error
        bundle.write("config.json", msgspec.json.encode(spec))
