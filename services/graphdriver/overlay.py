"""overlay: each layer a directory, a container's root an overlayfs mount of them.

| path                                  | what                             |
|---------------------------------------|----------------------------------|
| LAYER/diff                            | an image layer's files           |
| CONTAINER/upper, work, merged         | overlayfs's own three            |
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Sequence
from pathlib import Path

from services.graphdriver import syscalls

__all__ = ["Overlay"]

EMPTY = "empty"
MAX_OPTIONS = 4095  # bytes that mount(2) takes


class Overlay:
    """``options``: further ones of mount(8), as ``xino=on``."""

    name = "overlay"

    def __init__(self, options: Sequence[str] = ()) -> None:
        self._options = "".join(f",{option}" for option in options)

    def works(self, directory: Path) -> bool:
        """Try a real mount in ``directory``."""
        with tempfile.TemporaryDirectory(dir=directory) as trial:
            top = Path(trial)
            for name in ("lower", "upper", "work", "merged"):
                (top / name).mkdir()
            try:
                syscalls.mount(
                    "overlay",
                    top / "merged",
                    "overlay",
                    f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work{self._options}",
                )
            except OSError:
                return False
            syscalls.unmount(top / "merged")
        return True

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
        """Mount with the layers named relative to their common directory: more than a hundred fit so."""
        merged = container / "merged"
        if syscalls.is_mounted(merged):
            return merged
        # overlayfs wants a lower directory; an image without layers gets an empty one
        lower = ":".join(str(self.diff_path(Path(layer.name))) for layer in reversed(layers)) or EMPTY
        options = f"lowerdir={lower},upperdir={container}/upper,workdir={container}/work{self._options}"
        if len(options) > MAX_OPTIONS:
            raise OSError(errno.ENAMETOOLONG, f"{len(layers)} layers are too many for one mount")
        with syscalls.working_directory(layers[0].parent if layers else container):
            syscalls.mount("overlay", merged, "overlay", options)
        return merged

    def unmount(self, container: Path) -> None:
        syscalls.unmount(container / "merged")

    def writable_path(self, container: Path) -> Path:
        return container / "upper"

    def status(self) -> dict[str, str]:
        return {"Driver": self.name, "Supports d_type": "true", "Using metacopy": "false", "userxattr": "false"}
