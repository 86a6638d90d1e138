"""Jobs on execs: commands run inside a container that runs already.

``execCreate``, ``execStart`` and ``execResize`` are the 2014 names. An exec is a record first; its start makes the
process, held by a monitor of its own. A field ``exec`` is always a full id: any job here may raise NotFound.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, field

from shared.protocol.job import Data, Job, Record

__all__ = [
    "CreateExec",
    "ExecConfig",
    "ExecCreated",
    "ExecExited",
    "ExecInspect",
    "ExecProcess",
    "ExecStarted",
    "InspectExec",
    "NoteExecDetach",
    "ResizeExec",
    "RunningExec",
    "RuntimeExec",
    "RuntimeExecList",
    "RuntimeExecResize",
    "RuntimeExecStarted",
    "StartExec",
    "WaitExec",
]

ConsoleSize = tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]  # height, width in characters


class ExecConfig(Record):
    """API 1.51 ExecConfig."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    privileged: bool = False
    user: str = ""
    working_dir: str = ""
    console_size: ConsoleSize | None = None


class ExecCreated(Record):
    id: str


class CreateExec(Job[ExecCreated], frozen=True, tag="execCreate"):
    """Prepare a command. Errors: InvalidArgument (no command), Conflict (not running, paused, restarting)."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True

    container: str
    config: ExecConfig = field(default_factory=ExecConfig)


class ExecStarted(Data, frozen=True):
    """What a session with the process is made of: which streams it has, and the keys that leave it."""

    tty: bool
    stdin: bool
    stdout: bool
    stderr: bool
    detach_keys: str


class StartExec(Job[ExecStarted], frozen=True, tag="execStart"):
    """Run a prepared command, once. Errors: Conflict (it has run, or the container cannot take it), CommandNotFound
    (exit code 127), CommandNotExecutable and others (126).

    Unless ``detach``, a STATUS ``session`` comes first, a ticket; it must be redeemed, and delivers a descriptor of the
    monitor's attach socket (see `shared.protocol.runtime.RuntimeAttach`); the process runs after that. Where more than
    one comes, the last counts.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("exec",)
    REPEATABLE: ClassVar[bool] = True

    exec: str
    detach: bool = False
    console_size: ConsoleSize | None = None


class NoteExecDetach(Job[None], frozen=True, tag="execDetach"):
    """Tell that a client has detached from an exec by its keys: the event ``exec_detach``.

    Not repeatable: as `NoteDetach`.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("exec",)
    exec: str


class ResizeExec(Job[None], frozen=True, tag="execResize"):
    """Set the terminal's size. Errors: Conflict (the exec does not run)."""

    ARGS: ClassVar[tuple[str, ...]] = ("exec", "height", "width")
    REPEATABLE: ClassVar[bool] = True
    exec: str
    height: int
    width: int


class ExecProcess(Record, rename="lower"):
    """API 1.51 ProcessConfig."""

    tty: bool
    entrypoint: str
    arguments: list[str]
    privileged: bool
    user: str


class ExecInspect(Record):
    """API 1.51 ExecInspectResponse; ``exit_code`` None until it has ended."""

    id: str = field(name="ID")
    running: bool
    exit_code: int | None
    process_config: ExecProcess
    open_stdin: bool
    open_stderr: bool
    open_stdout: bool
    can_remove: bool
    container_id: str = field(name="ContainerID")
    detach_keys: str
    pid: int


class InspectExec(Job[ExecInspect], frozen=True, tag="exec_inspect"):
    """Describe an exec. Errors: NotFound."""

    ARGS: ClassVar[tuple[str, ...]] = ("exec",)
    REPEATABLE: ClassVar[bool] = True
    exec: str


class WaitExec(Job[int], frozen=True, tag="exec_wait"):
    """Wait until an exec has ended and its end is on record; returns its exit code. May be called again at will."""

    ARGS: ClassVar[tuple[str, ...]] = ("exec",)
    REPEATABLE: ClassVar[bool] = True
    exec: str


# -- between the engine and the execdriver


class RuntimeExecStarted(Data, frozen=True):
    pid: int


class RuntimeExec(Job[RuntimeExecStarted], frozen=True, tag="runtime_exec"):
    """Run a command in a running container, with the container's sandbox.

    ``env`` is complete but for HOSTNAME, TERM and HOME, ``user`` as the user typed it (or the image has it). With
    ``attach`` a STATUS ``session`` comes, a ticket, and the process runs once it has been redeemed. Called again for
    the same exec, it finds what the first call made, or makes what that left undone: the process runs once.
    Errors: Conflict (the container does not run), CommandNotFound, CommandNotExecutable, InvalidArgument, Unavailable
    (nobody redeemed the ticket).
    """

    REPEATABLE: ClassVar[bool] = True
    exec: str
    container: str
    generation: int
    args: list[str]
    env: list[str]
    hostname: str
    working_dir: str
    user: str
    group_add: list[str]
    tty: bool
    stdin: bool
    attach: bool
    privileged: bool
    console_size: ConsoleSize | None = None


class RuntimeExecResize(Job[None], frozen=True, tag="runtime_exec_resize"):
    """Give the terminal of an exec that runs a size, in characters. Errors: Conflict (it does not run)."""

    REPEATABLE: ClassVar[bool] = True
    exec: str
    height: int
    width: int


class RunningExec(Data, frozen=True):
    exec: str
    container: str
    pid: int


class RuntimeExecList(Job[list[RunningExec]], frozen=True, tag="runtime_exec_list"):
    """List the execs that run, or whose end has not been acknowledged."""

    REPEATABLE: ClassVar[bool] = True


class ExecExited(Job[None], frozen=True, tag="exec_exited"):
    """execdriver → engine: an exec's process ended. Sent until acknowledged. ``exit_code`` is 128+n for signal n."""

    REPEATABLE: ClassVar[bool] = True
    exec: str
    container: str
    exit_code: int
    exited_at: float
