"""image: a volume is the files of an image, for reading alone; one mount serves all containers that have it.

Its name is the digest of the image, without the algorithm; the option ``layers`` the chain ids of its layers, bottom
first. It is mounted at RUN/images/NAME/merged, and nothing is kept of it.
"""

from __future__ import annotations

from pathlib import Path

from services.graphdriver.layers import Layers
from services.graphdriver.volumes.driver import Options, unknown_driver
from shared.protocol import IMAGE_VOLUME_DRIVER, NotFound

__all__ = ["ImageFiles"]


class ImageFiles:
    name = IMAGE_VOLUME_DRIVER

    def __init__(self, run: Path, layers: Layers) -> None:
        self._run, self._layers = run, layers

    def create(self, volume: str, options: Options) -> Path:
        raise NotFound(unknown_driver(self.name, volume))

    def mount(self, volume: str, options: Options) -> Path:
        place = self._run / volume
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._layers.show((options or {}).get("layers", "").split(), place)

    def unmount(self, volume: str) -> None:
        self._layers.hide(self._run / volume)

    def remove(self, volume: str) -> None:
        self.unmount(volume)

    def mounted(self) -> list[str]:
        return sorted(place.name for place in self._run.glob("*"))

    def usage(self, volume: str) -> int:
        return 0  # it has nothing of its own
