"""What an OCI runtime must offer: the verbs of the OCI runtime specification, as far as conmon does not call them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

__all__ = ["Runtime"]


class Runtime(Protocol):
    """A runtime program. ``create`` and ``exec`` are called by the monitor with `path` and `arguments`."""

    arguments: list[str]  # global arguments, before the verb

    @property
    def path(self) -> str:
        """Return what to execute; it may be another after the program was replaced. Errors: NotFound."""
        ...

    def exec_command(self, *, sized: bool) -> list[str]:
        """Return the program that execs, and what precedes the verb. ``sized``: its terminal has a size."""
        ...

    def start(self, container: str) -> None:
        """Let a created container's process run. Errors: NotFound, DockyardError."""
        ...

    def is_waiting(self, container: str) -> bool:
        """Say whether a container has been created and not started."""
        ...

    def delete(self, container: str) -> None:
        """Remove the runtime's state of a container whose processes are gone. Idempotent."""
        ...

    def create_error(self, message: str, args: list[str]) -> Exception:
        """Turn what the runtime said of a failed create into one of our errors, in the words clients know."""
        ...

    def exec_error(self, message: str, args: list[str], working_dir: str) -> Exception:
        """The same of a command that did not start in a running container."""
        ...

    def state_directory(self, container: str) -> Path:
        """Return where the runtime keeps a container's state."""
        ...
