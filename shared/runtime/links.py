"""Links: where a path leads inside a tree, whatever its symlinks say."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["follow"]

MAX_LINKS = 255  # on the way of one path, as the kernel's 40 but for people who try


def follow(path: str, link: Callable[[str], str | None]) -> list[str]:
    """Resolve all symlinks of a path as far as it exists; returns its parts. Beyond `MAX_LINKS` none is followed.

    ``link`` returns where a path (its parts joined) leads, None if it is no symlink; ".." at the top is the top.
    """
    pending, resolved, links = path.split("/")[::-1], list[str](), 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            resolved = resolved[:-1]
            continue
        target = link("/".join([*resolved, part]))
        if target is None or links == MAX_LINKS:
            resolved.append(part)
            continue
        links += 1
        resolved = [] if target.startswith("/") else resolved
        pending += target.split("/")[::-1]
    return resolved
