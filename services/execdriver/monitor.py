"""Monitor: one conmon a container, and one an exec. It holds stdio, log and exit status, and outlives us.

An exec's monitor runs nothing until it has read a word from the fifo `gate`, which it keeps open for writing itself:
if we die before the word, it waits, and whoever comes after us undoes it (`ExecBundle.is_waiting`).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from services.execdriver.bundle import Bundle, ExecBundle
from services.execdriver.driver import Runtime
from shared.protocol import DockyardError, NotFound, RuntimeExec, RuntimeStart
from shared.runtime.logs.files import LogFiles

__all__ = ["await_sockets", "connect", "count_sockets", "prepared", "resize", "spawn"]

CREATE_TIMEOUT = 60.0  # seconds for the runtime's create or exec
ACCEPT_TIMEOUT = 1.0  # seconds for a monitor to accept connections
RUNTIME_LOG = "runtime.log"
RUNTIME_UMASK = 0o022  # crun makes what a mount needs in the rootfs, for all users; where conmon writes, only we can be

Admit = Callable[[int], None]


def spawn(bundle: Bundle, runtime: Runtime, job: RuntimeStart, admit: Admit) -> int:
    """Start conmon, which has the runtime create the container; returns the pid of its init, which waits to be started.

    ``admit`` is called with the monitor's pid before it does anything.

    Errors: what `Runtime.create_error` makes of the runtime's message; DockyardError.
    """
    with ExitStack() as stack:
        answers, writer = _pipe(stack)
        waits, gate = _pipe(stack)
        descriptors = {"_OCI_SYNCPIPE": writer.fileno(), "_OCI_STARTPIPE": waits.fileno()}
        _launch(bundle, _command(bundle, runtime, job), admit, gate, **descriptors)
        writer.close()
        pid, message = _read_answer(bundle, answers)
    if pid <= 0:
        raise runtime.create_error(message or "the monitor said nothing", job.args)
    return pid


@contextmanager
def prepared(bundle: ExecBundle, runtime: Runtime, job: RuntimeExec, admit: Admit) -> Iterator[Callable[[], int]]:
    """Start an exec's monitor: inside, it takes connections, and its process does not run.

    What is yielded lets it run and returns its pid. Errors of that: what `Runtime.exec_error` makes of the runtime's
    message; DockyardError.
    """
    with ExitStack() as stack:
        answers, writer = _pipe(stack)
        # the monitor can read its own end as well: it would die of a pipe that nobody reads, and with it the exec
        sync = stack.enter_context(Path(f"/proc/self/fd/{writer.fileno()}").open("r+b", buffering=0))
        writer.close()
        attachable, attach = _pipe(stack)
        gate = stack.enter_context(bundle.gate.open("r+b", buffering=0))
        descriptors = {"_OCI_SYNCPIPE": sync, "_OCI_ATTACHPIPE": attach, "_OCI_STARTPIPE": gate}
        numbers = {name: file.fileno() for name, file in descriptors.items()}
        _launch(bundle, _exec_command(bundle, runtime, job), admit, gate, **numbers)
        sync.close()
        attach.close()
        if _read_answer(bundle, attachable)[0] < 0:
            raise DockyardError(f"the monitor of {bundle.id} did not come up")

        def let_run() -> int:
            gate.write(b"1")
            bundle.gate.unlink(missing_ok=True)
            pid, message = _read_answer(bundle, answers)
            if pid <= 0:
                raise runtime.exec_error(_runtime_log(bundle) or message, job.args, job.working_dir)
            return pid

        yield let_run


def _pipe(stack: ExitStack) -> tuple[BinaryIO, BinaryIO]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    return stack.enter_context(os.fdopen(reader, "rb", 0)), stack.enter_context(os.fdopen(writer, "wb", 0))


def _launch(bundle: Bundle, command: list[str], admit: Admit, gate: BinaryIO, **descriptors: int) -> None:
    """Run conmon until it has gone to the background. ``descriptors`` are inherited, and named in its environment.

    It reads a first word from ``gate`` before it forks: once it has been admitted.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={
                "PATH": os.environ.get("PATH", ""),
                "TZ": "UTC0",
                **{name: str(number) for name, number in descriptors.items()},
            },
            pass_fds=list(descriptors.values()),
            umask=RUNTIME_UMASK,
            start_new_session=True,
        )
        try:
            admit(process.pid)
        except BaseException:
            process.kill()
            process.wait()
            raise
        gate.write(b"0")
        process.wait(CREATE_TIMEOUT)  # conmon forks at once; the child goes on
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DockyardError(f"the monitor of {bundle.id} did not start: {error}") from error


def _common(bundle: Bundle, runtime: list[str], name: str, *runtime_arguments: str) -> list[str]:
    """``runtime``: the program that is called, and what is said to it first."""
    program = shutil.which("conmon")
    if program is None:
        raise NotFound("conmon is not installed")
    directory = str(bundle.directory)
    return [
        program, "--api-version", "1", "--cid", bundle.container, "--cuuid", bundle.id, "--name", name,
        "--runtime", runtime[0],
        *(f"--runtime-arg={argument}" for argument in (*runtime[1:], *runtime_arguments)),
        "--bundle", directory, "--persist-dir", directory, "--full-attach",
        "--container-pidfile", f"{directory}/pidfile", "--conmon-pidfile", f"{directory}/monitor.pid",
        "--no-sync-log", "--log-level", "warning",
    ]  # fmt: skip


def _command(bundle: Bundle, runtime: Runtime, job: RuntimeStart) -> list[str]:
    command = _common(bundle, [runtime.path, *runtime.arguments], job.name)
    command += ["--exit-dir", str(bundle.exit_file.parent), *_log_arguments(job)]
    if job.config.tty:
        command.append("--terminal")
    if job.config.open_stdin:
        command.append("--stdin")
        if not job.config.stdin_once:
            command.append("--leave-stdin-open")
    return command


def _log_arguments(job: RuntimeStart) -> list[str]:
    if job.log.driver == "none":
        return ["--log-path", "none"]
    if job.log.driver == "journald":
        return ["--log-path", "journald", "--log-tag", job.log.tag]
    return ["--log-path", f"k8s-file:{LogFiles(Path(job.directory)).current}"]


def _exec_command(bundle: ExecBundle, runtime: Runtime, job: RuntimeExec) -> list[str]:
    """With a terminal, what the runtime says of a failure is lost with the terminal: so it says it to a file too."""
    sized = job.tty and bool(job.console_size)
    command = _common(bundle, runtime.exec_command(sized=sized), job.exec, f"--log={bundle.directory / RUNTIME_LOG}")
    command += ["--log-path", "none", "--exec", "--exec-attach"]
    command += ["--exec-process-spec", str(bundle.directory / "process.json")]
    if job.tty:
        command += ["--terminal", "--leave-stdin-open"]
    if job.stdin:
        command.append("--stdin")
    return command


def _read_answer(bundle: Bundle, reader: BinaryIO) -> tuple[int, str]:
    """Read the line of JSON that conmon writes when the runtime has answered: (pid or -1, message)."""
    data = b""
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    while b"\n" not in data:
        if not poller.poll(CREATE_TIMEOUT * 1000):
            raise DockyardError(f"the monitor of {bundle.id} does not answer")
        chunk = os.read(reader.fileno(), 65536)
        if not chunk:  # it died
            break
        data += chunk
    try:
        answer: dict[str, Any] = json.loads(data.partition(b"\n")[0])
        return int(answer.get("data", answer.get("pid", -1))), str(answer.get("message", ""))
    except (ValueError, AttributeError):
        return -1, data.decode("utf-8", "replace")


def _runtime_log(bundle: ExecBundle) -> str:
    """Return the first line, which is the cause of those that follow."""
    try:
        return next(iter((bundle.directory / RUNTIME_LOG).read_text(errors="replace").splitlines()), "")
    except FileNotFoundError:
        return ""


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


def count_sockets(bundle: Bundle) -> int:
    """Return how many sockets a monitor has open; 0 if it is gone."""
    count = 0
    with suppress(FileNotFoundError):
        for descriptor in Path(f"/proc/{bundle.monitor_pid()}/fd").iterdir():
            with suppress(FileNotFoundError):
                count += str(descriptor.readlink()).startswith("socket:")
    return count


def await_sockets(bundle: Bundle, wanted: int) -> None:
    """Wait until a monitor has ``wanted`` sockets: it has accepted what was connected, then.

    One that ends before it has accepted a connection resets it, and the output of a short process is lost to it.
    """
    deadline = time.monotonic() + ACCEPT_TIMEOUT
    while count_sockets(bundle) < wanted and time.monotonic() < deadline:
        time.sleep(0.001)


def resize(bundle: Bundle, height: int, width: int) -> None:
    """Tell a monitor the terminal's size. Errors: OSError."""
    fifo = os.open(bundle.directory / "winsz", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fifo, f"{height} {width}\n".encode())
    finally:
        os.close(fifo)
