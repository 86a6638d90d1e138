"""Monitor: one conmon a container. It holds stdio, log and exit status, and outlives us."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
from typing import Any

from services.execdriver.bundle import Bundle
from services.execdriver.driver import Runtime
from shared.protocol import DockyardError, NotFound, RuntimeStart

__all__ = ["connect", "resize", "spawn"]

CREATE_TIMEOUT = 60.0  # seconds for the runtime's create


def spawn(bundle: Bundle, runtime: Runtime, job: RuntimeStart) -> int:
    """Start conmon, which has the runtime create the container; returns the pid of its init, which waits to be started.

    Errors: what `Runtime.create_error` makes of the runtime's message; DockyardError.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        process = subprocess.Popen(
            _command(bundle, runtime, job),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "_OCI_SYNCPIPE": str(writer)},
            pass_fds=[writer],
            start_new_session=True,
        )
        os.close(writer)
        writer = -1
        process.wait(CREATE_TIMEOUT)  # conmon forks at once; the child goes on
        answer = _read_answer(reader)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DockyardError(f"the monitor of {job.container} did not start: {error}") from error
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    pid = int(answer.get("data", answer.get("pid", -1)))
    if pid <= 0:
        raise runtime.create_error(str(answer.get("message", "the monitor said nothing")), job.args)
    return pid


def _command(bundle: Bundle, runtime: Runtime, job: RuntimeStart) -> list[str]:
    program = shutil.which("conmon")
    if program is None:
        raise NotFound("conmon is not installed")
    directory = str(bundle.directory)
    command = [
        program, "--api-version", "1", "--cid", job.container, "--cuuid", job.container, "--name", job.name,
        "--runtime", runtime.path, *(f"--runtime-arg={argument}" for argument in runtime.arguments),
        "--bundle", directory, "--persist-dir", directory, "--full-attach",
        "--container-pidfile", f"{directory}/pidfile", "--conmon-pidfile", f"{directory}/monitor.pid",
        "--exit-dir", str(bundle.exit_file.parent), "--no-sync-log", "--log-level", "warning",
        "--log-path", f"k8s-file:{job.directory}/container.log",
    ]  # fmt: skip
    if job.config.tty:
        command.append("--terminal")
    if job.config.open_stdin:
        command.append("--stdin")
        if not job.config.stdin_once:
            command.append("--leave-stdin-open")
    return command


def _read_answer(reader: int) -> dict[str, Any]:
    """Read the line of JSON that conmon writes when the runtime has answered; its end of file if it died."""
    data = b""
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    while not data.endswith(b"\n"):
        if not poller.poll(CREATE_TIMEOUT * 1000):
            raise OSError("no answer")
        chunk = os.read(reader, 65536)
        if not chunk:
            break
        data += chunk
    try:
        answer = json.loads(data)
    except ValueError:
        return {"message": data.decode("utf-8", "replace")}
    return answer if isinstance(answer, dict) else {}


def connect(bundle: Bundle) -> socket.socket:
    """Connect to a monitor's attach socket (SOCK_SEQPACKET). Errors: OSError.

    Through a descriptor of the directory, since a socket's path may not be longer than 107 bytes.
    """
    directory = os.open(bundle.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(f"/proc/self/fd/{directory}/attach")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


def resize(bundle: Bundle, height: int, width: int) -> None:
    """Tell a monitor the terminal's size. Errors: OSError."""
    fifo = os.open(bundle.directory / "winsz", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fifo, f"{height} {width}\n".encode())
    finally:
        os.close(fifo)
