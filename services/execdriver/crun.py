"""crun as the OCI runtime."""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

from services.execdriver.sealed import SealedProgram
from shared.protocol import CommandNotExecutable, CommandNotFound, DockyardError, InvalidArgument, NotFound

__all__ = ["EXEC_INIT_PHRASE", "EXEC_PHRASE", "Crun"]

log = logging.getLogger("dockyard.execdriver")

# the words that clients know (wire-details §12): who failed, and at what
RUNC_PHRASE = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
INIT_PHRASE = "runc create failed: unable to start container process: error during container init: "
EXEC_PHRASE = "OCI runtime exec failed: exec failed: "
EXEC_INIT_PHRASE = "unable to start container process: "


class Crun:
    """State lives under ``root``/<id>. ``start`` writes to crun's exec fifo, as `crun start` does (4 ms less)."""

    def __init__(self, program: str, root: Path) -> None:
        path = shutil.which(program)
        if path is None:
            raise NotFound(f"the OCI runtime {program} is not installed")
        self._sealed = SealedProgram(path)
        self.root = root
        self.arguments = [f"--root={root}", "--cgroup-manager=cgroupfs"]
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def path(self) -> str:
        try:
            return self._sealed.path
        except OSError as error:
            raise NotFound(f"the OCI runtime is not installed any more: {error}") from error

    def exec_command(self, *, sized: bool) -> list[str]:
        """crun gives a terminal its size while the process runs already. Ahead of all others, it comes first."""
        return [*(_ahead() if sized else []), self.path, *self.arguments]

    def state_directory(self, container: str) -> Path:
        return self.root / container

    def _fifo(self, container: str) -> Path:
        return self.root / container / "exec.fifo"

    def is_waiting(self, container: str) -> bool:
        return self._fifo(container).exists()

    def start(self, container: str) -> None:
        fifo = self._fifo(container)
        try:
            descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"No such container: {container}") from None
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise DockyardError(f"start of {container}: {error}") from error
            self._start_by_program(container)
            return
        try:
            os.write(descriptor, b"0")
        finally:
            os.close(descriptor)
        fifo.unlink(missing_ok=True)

    def _start_by_program(self, container: str) -> None:
        command = [self.path, *self.arguments, "start", container]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if answer.returncode:
            raise DockyardError(f"{RUNC_PHRASE}{answer.stderr.strip()}")

    def delete(self, container: str) -> None:
        """Remove the state by hand: `crun delete` takes milliseconds, and cgroups are removed by their maker."""
        shutil.rmtree(self.state_directory(container), ignore_errors=True)

    def create_error(self, message: str, args: list[str]) -> DockyardError:
        log.info("create failed command=%s runtime=%s", args[0], message.strip())
        return _error(message.strip(), args[0], RUNC_PHRASE, INIT_PHRASE)

    def exec_error(self, message: str, args: list[str], working_dir: str) -> DockyardError:
        text = message.strip()
        log.info("exec failed command=%s runtime=%s", args[0], text)
        found = re.search(r"chdir .*: ([^:]+)$", text)
        if found:
            reason = found[1].lower()
            why = f'{EXEC_PHRASE}{EXEC_INIT_PHRASE}chdir to cwd ("{working_dir}") set in config.json failed: {reason}'
            missing = reason == "no such file or directory"
            return (CommandNotFound if missing else CommandNotExecutable)(f"{why}: unknown")
        return _error(text, args[0], EXEC_PHRASE, EXEC_INIT_PHRASE)


@functools.cache
def _ahead() -> list[str]:
    """Return what runs a program ahead of all others, and not its children (sched(7)); nothing where it is refused."""
    program = shutil.which("chrt") or "chrt"
    command = [program, "--reset-on-fork", "--fifo", "1"]
    try:
        subprocess.run([*command, "true"], capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.info("the size of an exec's terminal may come late error=%s", error)
        return []
    return command


def _error(text: str, command: str, who: str, what: str) -> DockyardError:
    """Tell from a runtime's words of a command that did not start why it did not."""
    if (
        not command
        or re.search(r"executable file .* not found", text)
        or _is_about_exec(text, "No such file or directory")
    ):
        reason = "stat " + command + ": no such file or directory" if "/" in command else NOT_IN_PATH
        return CommandNotFound(f'{who}{what}exec: "{command}": {reason}: unknown')
    refused = any(
        _is_about_exec(text, why) for why in ("Permission denied", "Is a directory", "Operation not permitted")
    )
    if refused or "is not a regular file" in text:
        # crun says EPERM or "not a regular file" of a directory; of a file without x EACCES, or that it exists
        plain = "Permission" in text or "exists but it is not executable" in text
        reason = "permission denied" if plain else "is a directory: permission denied"
        return CommandNotExecutable(f'{who}{what}exec: "{command}": {reason}: unknown')
    if _is_about_exec(text, "Exec format error"):
        return InvalidArgument(f"{who}{what}exec {command}: exec format error: unknown")
    text = re.sub(r"(?<=: )[A-Z](?=[a-z ]+$)", lambda first: first[0].lower(), text)  # clients look for Go's spelling
    if re.match(r"mount .* to .*: not a directory$", text):
        return DockyardError(f"{who}{text}: unknown{FILE_ONTO_DIRECTORY}")
    return DockyardError(f"{who}{text}: unknown")


FILE_ONTO_DIRECTORY = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is "
    "the expected type"
)
NOT_IN_PATH = "executable file not found in $PATH"


def _is_about_exec(text: str, reason: str) -> bool:
    """crun says ``open executable: …``, ``stat executable: …`` or ``execvpe …`` of the command itself."""
    return reason.lower() in text.lower() and bool(re.search(r"executable|exec", text))
