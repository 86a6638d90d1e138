"""Who a container runs as: ``user``, ``uid``, ``user:group``, ``uid:gid``, looked up in the image's own files.

passwd and group are parsed as text, never through the host's C library (its modules would be the container's).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.protocol import InvalidArgument
from shared.runtime.rootfs import read_text

__all__ = ["User", "resolve_user"]

MAX_ID = 2**31 - 1


@dataclass(frozen=True)
class User:
    uid: int
    gid: int
    additional_gids: list[int]
    home: str


def resolve_user(rootfs: Path, user: str, group_add: list[str]) -> User:
    """Resolve as moby's user.GetExecUser. Errors: InvalidArgument in moby's words.

    The primary group is among the additional ones: else a program that changes its group would leave it, and with it
    what a file denies to that group.
    """
    passwd = [line.split(":") for line in read_text(rootfs, "/etc/passwd").splitlines() if line.count(":") >= 6]
    groups = [line.split(":") for line in read_text(rootfs, "/etc/group").splitlines() if line.count(":") >= 3]
    name, _, group = user.partition(":")
    name = name or "0"
    entry = next((e for e in passwd if e[0] == name or (_is_number(name) and e[2] == name)), None)
    if entry is None and not _is_number(name):
        raise InvalidArgument(f"unable to find user {name}: no matching entries in passwd file")
    uid = _number(entry[2] if entry else name, name)
    gid = _number(entry[3], name) if entry else 0
    if group:
        gid = _group(groups, group)
    additional = {gid, *(_group(groups, wanted) for wanted in group_add)}
    if entry is not None and not group:
        additional |= {_number(g[2], g[0]) for g in groups if entry[0] in g[3].split(",") and _is_number(g[2])}
    return User(uid, gid, sorted(additional), entry[5] if entry and entry[5] else "/")


def _group(groups: list[list[str]], wanted: str) -> int:
    entry = next((g for g in groups if g[0] == wanted or (_is_number(wanted) and g[2] == wanted)), None)
    if entry is None and not _is_number(wanted):
        raise InvalidArgument(f"unable to find group {wanted}: no matching entries in group file")
    return _number(entry[2] if entry else wanted, wanted)


def _number(text: str, name: str) -> int:
    if not _is_number(text) or int(text) > MAX_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}: {name}")
    return int(text)


def _is_number(text: str) -> bool:
    """Digits of other scripts are letters here."""
    return text.isascii() and text.isdigit()
