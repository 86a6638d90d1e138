"""The built-in image: busybox, from the distribution's busybox-static, as a docker archive. No registry is needed."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from shared.runtime.machine import architecture

__all__ = ["PROGRAM", "archive"]

PROGRAM = Path("/bin/busybox")
CREATED = "1970-01-01T00:00:00Z"  # the same program gives the same image
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\nusers:x:100:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755,
    "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "usr/sbin": 0o755, "sbin": 0o755, "var": 0o755, "var/spool": 0o755,
}  # fmt: skip


def archive(reference: str = "busybox:latest") -> bytes:
    """Return the image as a docker archive. Errors: OSError, CalledProcessError (no busybox that works)."""
    layer = _layer()
    config = {
        "architecture": architecture(),
        "os": "linux",
        "created": CREATED,
        "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": CREATED, "created_by": "dockyard busybox", "comment": "from busybox-static"}],
    }
    document = json.dumps(config).encode()
    name = f"{hashlib.sha256(document).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in ((name, document), ("layer.tar", layer), ("manifest.json", json.dumps(manifest).encode())):
            _file(tar, path, data, 0o644)
    return buffer.getvalue()


def _layer() -> bytes:
    applets = subprocess.run([str(PROGRAM), "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, mode in DIRECTORIES.items():
            member = tarfile.TarInfo(path)
            member.type, member.mode = tarfile.DIRTYPE, mode
            tar.addfile(member)
        _file(tar, "bin/busybox", PROGRAM.read_bytes(), 0o755)
        for applet in sorted(set(applets) - {"busybox"}):
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname, member.mode = tarfile.LNKTYPE, "bin/busybox", 0o755
            tar.addfile(member)
        for path, text in FILES.items():
            _file(tar, path, text.encode(), 0o644)
    return buffer.getvalue()


def _file(tar: tarfile.TarFile, path: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(data), mode
    tar.addfile(member, io.BytesIO(data))
