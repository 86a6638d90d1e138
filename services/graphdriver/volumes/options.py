"""Options of local volumes: ``type``, ``device`` and ``o`` are handed to mount(2), as Docker does; ``size`` is refused.

``o`` is what mount(8) takes after -o: words that are flags, and the rest, which the file system is given.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from services.graphdriver import syscalls
from services.graphdriver.volumes.driver import Options
from shared.protocol import DockyardError, InvalidArgument

__all__ = ["check_options", "mount_device", "wants_mount"]

REQUIRED = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
NETWORK = ("nfs", "cifs")
READ_ONLY, REMOUNT, BIND, RECURSIVE = 1, 32, 4096, 16384
FLAGS = {
    "ro": READ_ONLY, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "remount": REMOUNT, "mand": 64, "dirsync": 128,
    "noatime": 1024, "nodiratime": 2048, "bind": BIND, "rbind": BIND | RECURSIVE, "relatime": 1 << 21,
    "strictatime": 1 << 24,
}  # fmt: skip
CLEARING = {
    "rw": READ_ONLY, "suid": 2, "dev": 4, "exec": 8, "async": 16, "nomand": 64, "atime": 1024, "diratime": 2048,
    "norelatime": 1 << 21, "nostrictatime": 1 << 24, "defaults": 0,
}  # fmt: skip
PROPAGATION = {
    "unbindable": 1 << 17, "runbindable": 1 << 17 | RECURSIVE, "private": 1 << 18, "rprivate": 1 << 18 | RECURSIVE,
    "slave": 1 << 19, "rslave": 1 << 19 | RECURSIVE, "shared": 1 << 20, "rshared": 1 << 20 | RECURSIVE,
}  # fmt: skip


def check_options(volume: str, options: Options) -> None:
    """Errors: InvalidArgument, in Docker's words."""
    given = options or {}
    for name in given:
        if name not in (*REQUIRED, "size"):
            raise InvalidArgument(f'create {volume}: invalid option: "{name}"')
    if "size" in given:
        raise InvalidArgument(f"create {volume}: quota size requested but no quota support")
    for name, required in REQUIRED.items():
        for other in required:
            if name in given and not given.get(other):
                raise InvalidArgument(f'create {volume}: missing required option: "{other}"')
    if given.get("type") == "cifs" and re.match(r"[^/]*//[^/]*:\d", given["device"]):
        raise InvalidArgument(f"create {volume}: port not allowed in CIFS device URL, include 'port' in 'o='")


def wants_mount(options: Options) -> bool:
    return bool((options or {}).get("device"))


def mount_device(options: dict[str, str], target: Path) -> None:
    """Mount what the options say. Errors: DockyardError (saying what was tried; a password is not shown)."""
    kind, device, text = options["type"], options["device"], options.get("o", "")
    if kind in NETWORK:
        device, text = _resolved(kind, device, text)
    flags, propagation, data = _parse(text)
    try:
        syscalls.mount(device, target, kind, data, flags)
        if flags & BIND and flags & ~(BIND | RECURSIVE):  # a bind takes them only in a second step
            syscalls.mount(device, target, kind, "", flags | REMOUNT)
        if propagation:
            syscalls.mount("", target, "", "", propagation)
    except OSError as error:
        syscalls.unmount(target)
        tried = (
            f"mount {device}:{target}" + (f", flags: {flags:#x}" if flags else "") + (f", data: {data}" if data else "")
        )
        why = f"{_without_password(tried)}: {os.strerror(error.errno or 0).lower()}"
        raise DockyardError(f"error while mounting volume '{target}': failed to mount local volume: {why}") from error


def _parse(text: str) -> tuple[int, int, str]:
    """Return (flags, propagation, what is left for the file system)."""
    flags, propagation, rest = 0, 0, []
    for word in filter(None, text.split(",")):
        if word in FLAGS:
            flags |= FLAGS[word]
        elif word in CLEARING:
            flags &= ~CLEARING[word]
        elif word in PROPAGATION:
            propagation |= PROPAGATION[word]
        else:
            rest.append(word)
    return flags, propagation, ",".join(rest)


def _resolved(kind: str, device: str, text: str) -> tuple[str, str]:
    """Put an address where a server is named: the kernel does not ask the DNS."""
    address = re.search(r"(?:^|,)addr=([^,]+)", text)
    if address:
        return device, text.replace(f"addr={address[1]}", f"addr={_address(address[1])}", 1)
    host = urlsplit(device).hostname if kind == "cifs" else None
    return (device.replace(host, _address(host), 1) if host else device), text


def _address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise DockyardError(f"error resolving passed in network volume address: lookup {host}: {error}") from error


def _without_password(text: str) -> str:
    return re.sub(r"password=[^,]+", "password=********", text)
