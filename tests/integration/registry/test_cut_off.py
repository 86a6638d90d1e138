"""Pulls that are cut off in the middle: by the client, or by kill -9 of the graphdriver."""

from __future__ import annotations

import gzip
import io
import json
import os
import platform
import signal
import subprocess
import tarfile
import threading
from pathlib import Path

from services.graphdriver.blobs import digest_of
from tests.integration.conftest import Stack, until
from tests.integration.registry.conftest import stored
from tests.integration.terminal import Terminal
from tests.registries import Answer, Request, Scripted, image_files


def big_image(served: Scripted) -> tuple[bytes, bytes]:
    """Serve an image whose layer is 4 MiB that do not compress; returns its config and the layer's blob."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("random")
        info.size = 4 << 20
        archive.addfile(info, io.BytesIO(os.urandom(info.size)))
    blob = gzip.compress(buffer.getvalue(), 1)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine()),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(buffer.getvalue())]},
    }
    served.put("big", "1", image_files(json.dumps(config).encode(), [blob]))
    return json.dumps(config).encode(), blob


def hold(served: Scripted, blob: bytes) -> threading.Event:
    """Have transfers of a blob stop in the middle until the event is set; then resume works."""
    release = threading.Event()

    def handle(request: Request) -> Answer | None:
        if digest_of(blob) not in request.path:
            return None
        if not release.is_set():
            return Answer(200, blob, cut=1 << 20, wait=release)
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        headers = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"} if start else {}
        return Answer(206 if start else 200, blob[start:], headers)

    served.handle = handle
    return release


def start_pull(stack: Stack, ref: str) -> subprocess.Popen[str]:
    command = ["docker", "pull", ref]
    return subprocess.Popen(command, env=stack.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def partial(stack: Stack, size: int = 1 << 19) -> list[Path]:
    """Return the files of transfers that have come that far; what comes last before a halt may be in a buffer."""
    return [path for path in (stack.root / "graph/tmp").glob("*") if path.is_file() and path.stat().st_size >= size]


def test_a_person_sees_how_far_it_is(clean: Stack, served: Scripted) -> None:
    """At a terminal each layer has its line, with a bar."""
    _, blob = big_image(served)
    release = hold(served, blob)
    layer = digest_of(blob)[7:19].encode()
    with Terminal(clean, "pull", f"{served.host}/big:1", size=(24, 120)) as terminal:
        terminal.read_until(layer + b": Downloading [====")
        release.set()
        terminal.read_until(b"Status: Downloaded newer image")
        assert terminal.wait() == 0
    for status in (b": Download complete", b": Extracting [====", b": Pull complete"):
        assert layer + status in terminal.seen


def test_two_pulls_share_a_download_and_one_may_hang_up(clean: Stack, served: Scripted) -> None:
    _, blob = big_image(served)
    release = hold(served, blob)
    pulls = [start_pull(clean, f"{served.host}/big:1") for _ in range(2)]
    until(lambda: partial(clean))
    until(lambda: len(served.asked("/manifests/")) >= 2)
    pulls[0].send_signal(signal.SIGINT)
    pulls[0].communicate(timeout=10)
    release.set()
    out, _ = pulls[1].communicate(timeout=30)
    assert pulls[1].returncode == 0, out
    assert [r.headers.get("Range") for r in served.asked(digest_of(blob))] == [None, f"bytes={1 << 20}-"]


def test_a_pull_whose_client_hangs_up_stops(clean: Stack, served: Scripted) -> None:
    _, blob = big_image(served)
    before, release = stored(clean), hold(served, blob)
    pull = start_pull(clean, f"{served.host}/big:1")
    until(lambda: partial(clean))
    pull.send_signal(signal.SIGINT)
    pull.communicate(timeout=10)
    until(lambda: not [job for job in jobs_under_way(clean) if job == "pull"])
    release.set()
    until(lambda: stored(clean) == before)  # of the config too, which had come whole
    assert clean.docker("inspect", f"{served.host}/big:1", check=False).returncode == 1


def jobs_under_way(stack: Stack) -> list[str]:
    _, jobs = 0, json.loads(stack.dockyard("job", "jobs", "--env", "running=1").stdout)
    return [str(job["name"]) for job in jobs]


def test_kill_9_in_the_middle_leaves_nothing(clean: Stack, served: Scripted) -> None:
    _, blob = big_image(served)
    release = hold(served, blob)
    pull = start_pull(clean, f"{served.host}/big:1")
    until(lambda: partial(clean))
    (pid,) = clean.pids("graphdriver")
    os.kill(pid, signal.SIGKILL)
    out, _ = pull.communicate(timeout=30)
    assert pull.returncode == 1, out
    until(lambda: pid not in clean.pids("graphdriver") and clean.pids("graphdriver"))
    until(lambda: not partial(clean))
    release.set()
    clean.docker("pull", f"{served.host}/big:1")
    assert clean.docker("inspect", f"{served.host}/big:1").returncode == 0


def test_kill_9_at_any_moment(clean: Stack, served: Scripted) -> None:
    """At the end `clean` finds nothing that no image has."""
    _, blob = big_image(served)
    ref = f"{served.host}/big:1"
    for step in range(6):  # more than ten in a minute, and the stack gives up
        pull = start_pull(clean, ref)
        (pid,) = until(lambda: clean.pids("graphdriver"))
        with_delay = threading.Timer(0.08 * step, os.kill, (pid, signal.SIGKILL))
        with_delay.start()
        pull.communicate(timeout=30)
        with_delay.join()
        until(lambda pid=pid: pid not in clean.pids("graphdriver") and clean.pids("graphdriver"))
        if pull.returncode == 0:
            clean.docker("rmi", ref)
    clean.docker("pull", ref)
    created = clean.out("create", ref, "/x")
    clean.docker("cp", f"{created}:/random", str(clean.directory / "random"))
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        assert archive.extractfile("random").read() == (clean.directory / "random").read_bytes()  # type: ignore[union-attr]
    clean.docker("rm", created)
