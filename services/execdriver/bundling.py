"""Bundling: what the runtime and the process find there before a container is made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from services.execdriver import limits, rootfs, shm
from services.execdriver.bundle import Bundle, Start
from services.execdriver.files import write_files
from services.execdriver.spec import build_spec
from shared.protocol import DockyardError, InvalidArgument, RuntimeStart
from shared.runtime.config import Config
from shared.runtime.user import resolve_user

__all__ = ["write_bundle"]


def write_bundle(
    config: Config, bundle: Bundle, job: RuntimeStart, start: Start, joined: dict[str, str]
) -> dict[str, Any]:
    """Write what the runtime and the process need; returns the OCI configuration."""
    root = Path(job.rootfs)
    user = resolve_user(root, job.config.user, job.host_config.group_add or [])
    working_dir = job.config.working_dir or "/"
    if not working_dir.startswith("/"):
        raise InvalidArgument(f"the working directory '{working_dir}' is invalid, it needs to be an absolute path")
    try:
        rootfs.make_directory(root, os.path.normpath(working_dir))
    except OSError as error:
        why = " is not a directory" if isinstance(error, NotADirectoryError) else f": {error.strerror}"
        raise InvalidArgument(f"Cannot mkdir: {working_dir}{why}") from error
    try:
        rootfs.make_marks(root)
    except OSError as error:
        raise DockyardError(f"the root filesystem cannot be written to: {error}") from error
    write_files(job, config.dns, config.dns_search)
    if job.host_config.ipc_mode == "shareable":
        shm.mount(bundle, job.host_config.shm_size)
    spec = build_spec(job, user, start, joined)
    bundle.write("config.json", msgspec.json.encode(limits.for_the_runtime(spec)))
    return spec
