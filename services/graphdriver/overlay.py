"""overlay: each layer a directory, a container's root an overlayfs mount of them.

| path                                  | what                             |
|---------------------------------------|----------------------------------|
| LAYER/diff                            | an image layer's files           |
| CONTAINER/upper, work, merged         | overlayfs's own three            |
| CONTAINER/lower                       | links to layers, if there are very many |
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from services.graphdriver import syscalls

__all__ = ["Overlay"]

EMPTY = "empty"
SHORT = "lower"  # a directory of links beside a mount
FULL = (errno.ENOSPC, errno.EDQUOT)
MAX_OPTIONS = 4095  # bytes that mount(2) takes
# What a container changes is whole in its upper directory, whatever the host's defaults: it can be read there.
WHOLE = "metacopy=off,redirect_dir=off,index=off"


class Overlay:
    """``options``: further ones of mount(8), as ``index=on``."""

    name = "overlay"
    sparse = True

    def __init__(self, options: Sequence[str] = ()) -> None:
        self._options = "".join(f",{option}" for option in options)

    def works(self, directory: Path) -> bool:
        """Try a real mount in ``directory``. A full disk says nothing against it: what is there can be removed."""
        try:
            with tempfile.TemporaryDirectory(dir=directory) as trial:
                self._try(Path(trial))
        except OSError as error:
            return error.errno in FULL
        return True

    def _try(self, top: Path) -> None:
        for name in ("lower", "upper", "work", "merged"):
            (top / name).mkdir()
        places = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
        syscalls.mount("overlay", top / "merged", "overlay", f"{places}{self._options}")
        syscalls.unmount(top / "merged")

    def diff_path(self, layer: Path) -> Path:
        return layer / "diff"

    def prepare(self, layer: Path, parents: list[Path]) -> None:
        self.diff_path(layer).mkdir(parents=True, exist_ok=True)
        self.diff_path(layer).chmod(0o755)  # our umask is not the image's

    def create(self, container: Path, layers: list[Path]) -> None:
        for name, mode in (("work", 0o700), ("upper", 0o755), ("merged", 0o700)):
            (container / name).mkdir(mode=mode, parents=True, exist_ok=True)
            (container / name).chmod(mode)
        if not layers:
            (container / EMPTY).mkdir(exist_ok=True)

    def mount(self, container: Path, layers: list[Path]) -> Path:
        """Where it finds no room for its own directory in work, overlayfs mounts read-only and says nothing."""
        merged = container / "merged"
        if syscalls.is_mounted(merged):
            return merged
        options = f",upperdir={container}/upper,workdir={container}/work,{WHOLE}{self._options}"
        self._mount(merged, self._lower(container, layers), options)
        if os.statvfs(merged).f_flag & os.ST_RDONLY:
            syscalls.unmount(merged)
            number = errno.EROFS if os.statvfs(container).f_flag & os.ST_RDONLY else errno.ENOSPC
            raise OSError(number, os.strerror(number), str(merged))
        return merged

    def _lower(self, container: Path, layers: list[Path]) -> list[Path]:
        """The topmost first. overlayfs wants a lower directory; an image without layers gets an empty one."""
        return [self.diff_path(layer) for layer in reversed(layers)] or [container / EMPTY]

    def _mount(self, target: Path, lower: list[Path], options: str = "") -> None:
        """Mount ``lower`` (the topmost first), named relative to a common directory: some two hundred fit so.

        If there are more, links with short names lead to them. Errors: OSError (overlayfs takes 500).
        """
        directory = lower[0].parents[1]
        names = [os.path.relpath(path, directory) for path in lower]
        if len(":".join(names)) + len(options) > MAX_OPTIONS - len("lowerdir="):
            directory = target.with_name(SHORT)
            directory.mkdir(mode=0o700, exist_ok=True)
            names = [_link(directory / str(number), path) for number, path in enumerate(lower)]
        with syscalls.working_directory(directory):
            syscalls.mount("overlay", target, "overlay", f"lowerdir={':'.join(names)}{options}")

    def is_mounted(self, container: Path) -> bool:
        return syscalls.is_mounted(container / "merged")

    def below(self, layers: list[Path], scratch: Path) -> Path:
        """The layers without a writable one. overlayfs wants two of them at least: an empty one goes below a single."""
        (scratch / EMPTY).mkdir(exist_ok=True)
        if not layers:
            return scratch / EMPTY
        merged = scratch / "merged"  # so called, what is left by a kill is unmounted at the next start
        merged.mkdir(exist_ok=True)
        if not syscalls.is_mounted(merged):
            lower = [self.diff_path(layer) for layer in reversed(layers)]
            self._mount(merged, lower if len(lower) > 1 else [*lower, scratch / EMPTY])
        return merged

    def unmount(self, container: Path) -> None:
        syscalls.unmount(container / "merged")

    def writable_path(self, container: Path) -> Path:
        return container / "upper"

    def places(self, container: Path, layers: list[Path]) -> dict[str, str]:
        return {
            "LowerDir": ":".join(map(str, self._lower(container, layers))),
            "MergedDir": str(container / "merged"),
            "UpperDir": str(container / "upper"),
            "WorkDir": str(container / "work"),
        }

    def status(self) -> dict[str, str]:
        return {"Driver": self.name, "Supports d_type": "true", "Using metacopy": "false", "userxattr": "false"}


def _link(link: Path, target: Path) -> str:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    return link.name
