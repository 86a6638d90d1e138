"""A build of five steps, cold and from the cache, with the docker command's classic builder (podman: its own).

By itself: `python -m tests.bench.builds --run RUN`, RUN being a stack's run directory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.engines import Engine, engines

__all__ = ["main"]

DOCKERFILE = """FROM busybox
ENV A=1
RUN echo one > /one
COPY data /data
RUN cat /one /data/f* > /two
CMD ["cat", "/two"]
"""
FILES, SIZE = 50, 20_000  # of the context; bytes of each


def main(found: list[Engine], rounds: int) -> None:
    """Print medians in milliseconds, each engine in turn."""
    os.environ["DOCKER_BUILDKIT"] = "0"
    with tempfile.TemporaryDirectory(prefix="dockyard-bench-") as place:
        directory = Path(place)
        (directory / "Dockerfile").write_text(DOCKERFILE)
        (directory / "data").mkdir()
        for number in range(FILES):
            (directory / "data" / f"f{number}").write_bytes(bytes([number]) * SIZE)
        for title, options in (("cold", ["--no-cache"]), ("from the cache", [])):
            samples: dict[str, list[float]] = {engine.name: [] for engine in found}
            for _ in range(rounds):
                for engine in found:
                    samples[engine.name].append(_build(engine, directory, options))
            shown = "  ".join(f"{name} {statistics.median(times):.0f} ms" for name, times in samples.items())
            print(f"  build of five steps, {title}: {shown}", flush=True)


def _build(engine: Engine, directory: Path, options: list[str]) -> float:
    began = time.perf_counter()
    engine.do("build", "-q", *engine.options, *options, "-t", "bench-build", str(directory))
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("/run/dockyard"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        main(engines(stack, arguments.run / "docker.sock"), arguments.rounds)
