"""`make bench`: how fast layers are unpacked, beside `zcat | tar x` with the fastest decompressor that is installed.

Both on the file system of the bench's directory and on a tmpfs, where nothing but the program counts.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from services.graphdriver.blobs import Blobs
from services.graphdriver.layers import Layers, choose_driver
from services.graphdriver.load import chain_ids
from shared.protocol import Descriptor
from shared.runtime.compression import decompressed

__all__ = ["unpack_speed"]

NO_BLOB = Descriptor(media_type="", digest="", size=0)  # the layers do not come from a content store
DECOMPRESSORS = ("zcat", "pigz -dc", "igzip -dc")


def unpack_speed(layers: list[Path], directory: Path, rounds: int) -> None:
    """Print a line for each file system."""
    packers = [command for command in DECOMPRESSORS if shutil.which(command.split()[0])]
    for place in (directory, Path("/dev/shm")):
        with tempfile.TemporaryDirectory(prefix="dockyard-bench-", dir=place) as scratch:
            times: dict[str, list[float]] = {name: [] for name in ("ours", *packers)}
            for _ in range(rounds):
                times["ours"].append(_timed(Path(scratch) / "ours", lambda target: _ours(layers, target)))
                for packer in packers:
                    taken = _timed(Path(scratch) / "tar", lambda target, p=packer: _tar(layers, target, p))
                    times[packer].append(taken)
            medians = {name: statistics.median(samples) for name, samples in times.items()}
            best = min(packers, key=medians.__getitem__)
            shown = "  ".join(f"{name} {seconds:.2f}" for name, seconds in medians.items())
            speed = 100 * medians[best] / medians["ours"]
            print(f"  unpacking in {place}, s: {shown}   ours has {speed:.0f} % of the speed of {best} | tar x")


def _timed(target: Path, action: Callable[[Path], None]) -> float:
    target.mkdir()
    began = time.perf_counter()
    action(target)
    taken = time.perf_counter() - began
    shutil.rmtree(target)
    return taken


def _tar(layers: list[Path], target: Path, packer: str) -> None:
    for number, layer in enumerate(layers):
        place = target / str(number)
        place.mkdir()
        subprocess.run(
            ["sh", "-c", f'{packer} "$1" | tar x --numeric-owner -C "$2"', "sh", layer, place],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def _ours(layers: list[Path], target: Path) -> None:
    (target / "tmp").mkdir()
    store = Layers(target, choose_driver("overlay", target / "tmp"), Blobs(target))
    diff_ids = [_diff_id(layer) for layer in layers]
    chains = chain_ids(diff_ids)
    for number, layer in enumerate(layers):
        with layer.open("rb") as blob:
            store.unpack(chains[: number + 1], diff_ids[number], NO_BLOB, decompressed(blob))


def _diff_id(layer: Path) -> str:
    return layer.with_suffix(".diff_id").read_text()
