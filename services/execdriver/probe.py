"""What a health probe runs as: the container's own process, as config.json has it, in the prober's terms."""

from __future__ import annotations

import base64
import resource
from typing import Any

import msgspec

from services.execdriver.bpf import ANNOTATION
from services.execdriver.bundle import Bundle
from services.execdriver.cgroups import Cgroup
from shared.protocol import CAPABILITIES

__all__ = ["build_probe"]


class _Spec(msgspec.Struct):
    process: dict[str, Any]
    linux: dict[str, Any]
    annotations: dict[str, str] = {}


def build_probe(bundle: Bundle, args: list[str]) -> dict[str, Any]:
    """Return a `prober.Probe` but for its id and timeout; the seccomp filter lies in the bundle."""
    spec = msgspec.json.decode((bundle.directory / "config.json").read_bytes(), type=_Spec)
    start = bundle.start()
    assert start is not None
    process, filter_path = spec.process, bundle.directory / "seccomp.bpf"
    if ANNOTATION in spec.annotations:
        filter_path.write_bytes(base64.b64decode(spec.annotations[ANNOTATION]))
    user = process["user"]
    return {
        "args": args,
        "env": dict(entry.split("=", 1) for entry in process["env"]),
        "cwd": process["cwd"],
        "uid": user["uid"],
        "gid": user["gid"],
        "groups": user.get("additionalGids", []),
        "capabilities": [CAPABILITIES.index(name.removeprefix("CAP_")) for name in process["capabilities"]["bounding"]],
        "no_new_privileges": process["noNewPrivileges"],
        "rlimits": [
            (getattr(resource, r["type"]), _limit(r["soft"]), _limit(r["hard"])) for r in process.get("rlimits", [])
        ],
        "oom_score_adj": process.get("oomScoreAdj", 0),
        "seccomp": str(filter_path) if "seccomp" in spec.linux else "",
        "cgroups": [str(path) for path in Cgroup(start.cgroup).process_files()],
    }


def _limit(number: int) -> int:
    """What is no limit in the OCI configuration is -1 to setrlimit(2) of Python."""
    return resource.RLIM_INFINITY if number == 2**64 - 1 else number
