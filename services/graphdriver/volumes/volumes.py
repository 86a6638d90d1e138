"""Volumes: the operations, over all drivers: mounts with their subpaths, filling from an image, removal.

A subpath is resolved once, inside the volume, and held by a bind mount at RUN/volumes/CONTAINER/VOLUME/N: what a
container that writes to the volume makes of the path afterwards changes nothing.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections import defaultdict
from pathlib import Path

from services.graphdriver import syscalls
from services.graphdriver.layers import Layers
from services.graphdriver.volumes.driver import Options, VolumeDriver, unknown_driver
from services.graphdriver.volumes.filling import fill, is_empty
from services.graphdriver.volumes.options import BIND, RECURSIVE
from shared.protocol import HeldVolume, InvalidArgument, NotFound
from shared.runtime.mountinfo import mounts_below
from shared.runtime.openat2 import open_beneath, open_inside

__all__ = ["Volumes"]

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class Volumes:
    def __init__(self, drivers: list[VolumeDriver], run: Path, layers: Layers) -> None:
        self._drivers = {driver.name: driver for driver in drivers}
        self._run, self._layers = run, layers
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def _driver(self, name: str, volume: str) -> VolumeDriver:
        """Errors: NotFound, InvalidArgument (a name that is no name of a directory)."""
        if not NAME.fullmatch(volume):
            raise InvalidArgument(f"invalid volume name: {volume[:100]!r}")
        try:
            return self._drivers[name]
        except KeyError:
            raise NotFound(unknown_driver(name, volume)) from None

    def create(self, name: str, volume: str, options: Options) -> Path:
        driver = self._driver(name, volume)
        with self._locks[volume]:
            return driver.create(volume, options)

    def mount(self, name: str, volume: str, options: Options, container: str, subpaths: list[str]) -> dict[str, str]:
        driver = self._driver(name, volume)
        with self._locks[volume]:
            data = driver.mount(volume, options)
            held = self._held(container, volume)
            self._let_go(held)
            paths = {"": data}
            for number, subpath in enumerate(filter(None, subpaths)):
                paths[subpath] = held / str(number)
                _hold(data, subpath, paths[subpath])
            return {subpath: str(path) for subpath, path in paths.items()}

    def unmount(self, name: str, volume: str, container: str, *, last: bool) -> None:
        driver = self._driver(name, volume)
        with self._locks[volume]:
            if container:
                self._let_go(self._held(container, volume))
            if last:
                driver.unmount(volume)

    def populate(self, name: str, volume: str, options: Options, container: str, destination: str) -> None:
        driver = self._driver(name, volume)
        with self._locks[volume]:
            data = driver.mount(volume, options)
            if not is_empty(data):
                return
            try:
                self._fill(data, self._layers.mount(container), destination)
            finally:
                self._layers.unmount(container)

    def _fill(self, data: Path, rootfs: Path, destination: str) -> None:
        root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
        try:
            source = open_inside(root, destination, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise InvalidArgument(f"cannot mount volume over existing file, file exists {destination}") from None
        finally:
            os.close(root)
        try:
            fill(data, source)
        finally:
            os.close(source)

    def remove(self, name: str, volume: str) -> None:
        driver = self._driver(name, volume)
        with self._locks[volume]:
            driver.remove(volume)
        self._locks.pop(volume, None)

    def usage(self, name: str, volume: str) -> int:
        return self._driver(name, volume).usage(volume)

    def held(self) -> list[HeldVolume]:
        """Return the volumes that are mounted, or that a container holds a subpath of."""
        drivers = {volume: driver.name for driver in self._drivers.values() for volume in driver.mounted()}
        containers: defaultdict[str, list[str]] = defaultdict(list)
        for directory in sorted(self._run.glob("*/*")):
            containers[directory.name].append(directory.parent.name)
        return [
            HeldVolume(name=volume, driver=drivers.get(volume, ""), containers=containers[volume])
            for volume in [*drivers, *(containers.keys() - drivers)]
        ]

    def _held(self, container: str, volume: str) -> Path:
        if not container.isalnum():
            raise InvalidArgument(f"invalid container id: {container[:100]!r}")
        return self._run / container / volume

    def _let_go(self, held: Path) -> None:
        """Unmount a container's subpaths of one volume. Only mount points and empty places for them are removed."""
        if not held.exists():
            return
        for point in mounts_below(held):
            syscalls.unmount(point)
        for place in held.iterdir():
            place.rmdir() if place.is_dir() else place.unlink()
        held.rmdir()
        try:
            held.parent.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise


def _hold(data: Path, subpath: str, place: Path) -> None:
    """Bind what a subpath leads to, without ever leaving the volume, to a place of its own."""
    top = os.open(data, os.O_PATH | os.O_DIRECTORY)
    try:
        found = open_beneath(top, subpath, os.O_PATH)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise InvalidArgument(
                f"path concatenation escapes the base directory, base: {data}, subpath: {subpath}"
            ) from error
        raise NotFound(f"cannot access path {data}/{subpath}: {error.strerror}") from error
    finally:
        os.close(top)
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if Path(f"/proc/self/fd/{found}").is_dir():
            place.mkdir()
        else:
            place.touch()
        syscalls.mount(f"/proc/self/fd/{found}", place, "", "", BIND | RECURSIVE)
    finally:
        os.close(found)
