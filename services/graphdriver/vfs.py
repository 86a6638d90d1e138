"""vfs: each layer a whole copy of the one below with its changes applied. Slow and large; works on any file system."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["Vfs"]


class Vfs:
    name = "vfs"
    sparse = False

    def diff_path(self, layer: Path) -> Path:
        return layer / "tree"

    def prepare(self, layer: Path, parents: list[Path]) -> None:
        if not self.diff_path(layer).exists():
            layer.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._copy(parents[-1] if parents else None, self.diff_path(layer))

    def create(self, container: Path, layers: list[Path]) -> None:
        tree, temporary = container / "tree", container / "tree.new"
        if tree.exists():
            return
        shutil.rmtree(temporary, ignore_errors=True)
        container.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._copy(layers[-1] if layers else None, temporary)
        temporary.rename(tree)

    def _copy(self, source: Path | None, target: Path) -> None:
        """Copy with owners, modes, links, devices and extended attributes: what cp -a does, better than shutil."""
        if source is None:
            target.mkdir(mode=0o755)
            target.chmod(0o755)
            return
        answer = subprocess.run(
            ["cp", "-a", "--reflink=auto", "--", str(self.diff_path(source)), str(target)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if answer.returncode:
            raise OSError(5, answer.stderr.strip())

    def mount(self, container: Path, layers: list[Path]) -> Path:
        tree = container / "tree"
        if not tree.exists():
            raise FileNotFoundError(2, "no such layer", str(tree))
        return tree

    def unmount(self, container: Path) -> None:
        return

    def is_mounted(self, container: Path) -> bool:
        return True

    def below(self, layers: list[Path], scratch: Path) -> Path:
        return self.diff_path(layers[-1]) if layers else scratch

    def writable_path(self, container: Path) -> Path:
        return container / "tree"

    def places(self, container: Path, layers: list[Path]) -> dict[str, str]:
        return {}

    def status(self) -> dict[str, str]:
        return {"Driver": self.name}
