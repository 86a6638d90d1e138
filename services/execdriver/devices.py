"""Devices of a container: its nodes, and the rules of its device cgroup (OCI runtime-spec 1.1 §config-linux)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.protocol import DeviceMapping, HostConfig, InvalidArgument

__all__ = ["devices"]

Node = dict[str, Any]
Rule = dict[str, Any]
EVERYTHING = "rwm"


def _rule(kind: str, major: int | None, minor: int | None, access: str = EVERYTHING) -> Rule:
    rule = {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}
    return {key: value for key, value in rule.items() if value is not None}


# null zero full random urandom tty console ptmx, pts, mknod of anything; fuse stays denied
DEFAULT_RULES: list[Rule] = [
    {"allow": False, "access": EVERYTHING},
    _rule("c", None, None, "m"),
    _rule("b", None, None, "m"),
    *(_rule("c", 1, minor) for minor in (3, 5, 7, 8, 9)),
    _rule("c", 5, 0),
    _rule("c", 5, 1),
    _rule("c", 5, 2),
    _rule("c", 136, None),
]
# of the host's /dev, what a privileged container has of its own
OWN_DIRECTORIES = ("pts", "shm", "fd", "mqueue", ".udev")
OWN_FILES = ("console", "ptmx")


def devices(host_config: HostConfig) -> tuple[list[Node], list[Rule]]:
    """Return OCI ``linux.devices`` and the device cgroup's rules. Errors: InvalidArgument (no such device)."""
    mapped = [(mapping, _mapped(mapping)) for mapping in host_config.devices or []]
    if host_config.privileged:
        nodes = list(_host_nodes(Path("/dev")))
        nodes += [node for _, found in mapped for node in found]
        return list({node["path"]: node for node in nodes}.values()), [{"allow": True, "access": EVERYTHING}]
    rules = list(DEFAULT_RULES)
    for mapping, found in mapped:
        access = mapping.cgroup_permissions or EVERYTHING
        rules += [_rule(node["type"], node["major"], node["minor"], access) for node in found]
    rules += [_parse_rule(text) for text in host_config.device_cgroup_rules or []]
    return [node for _, found in mapped for node in found], rules


def _mapped(mapping: DeviceMapping) -> list[Node]:
    """Return the node of a device, or those in a directory of devices. A symbolic link is followed."""
    source, target = Path(mapping.path_on_host), mapping.path_in_container or mapping.path_on_host
    found: list[Node] = []
    why = "no such file or directory"
    if _is_device(source):
        found = [_node(source.stat(), target)]
    elif source.is_dir():
        inside = [path for path in sorted(source.resolve().rglob("*")) if not path.is_symlink() and _is_device(path)]
        found = [_node(path.stat(), str(Path(target) / path.relative_to(source.resolve()))) for path in inside]
    if not found:
        if source.exists():
            why = "not a device node"
        raise InvalidArgument(f'error gathering device information while adding custom device "{source}": {why}')
    return found


def _host_nodes(directory: Path) -> Iterator[Node]:
    """Yield the nodes that the host has in a directory and below; what goes meanwhile is left out."""
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(status.st_mode) and path.name not in OWN_DIRECTORIES:
            yield from _host_nodes(path)
        elif _is_node(status) and path.name not in OWN_FILES:
            yield _node(status, str(path))


def _is_device(path: Path) -> bool:
    return path.is_char_device() or path.is_block_device()


def _is_node(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)


def _node(status: os.stat_result, inside: str) -> Node:
    return {
        "path": inside,
        "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _parse_rule(text: str) -> Rule:
    """Parse ``c 1:3 mr`` (``*`` for any number), which the engine has checked."""
    kind, numbers, access = text.split()
    major, minor = (None if number == "*" else int(number) for number in numbers.split(":"))
    return _rule(kind, major, minor, access)
