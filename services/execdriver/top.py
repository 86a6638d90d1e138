"""Top: the processes of a container, as ps(1) of the host lists them (procps)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator

from shared.protocol import DockyardError, InvalidArgument, NotImplementedByUs, Processes

__all__ = ["list_processes", "parse"]

TIMEOUT = 10.0  # seconds
BLANKS = re.compile(r"[ \t\f\r]+")  # no others: the name of a process may have them
# -o NAME=TITLE could print something else under the title PID
RENAMED_PID = re.compile(r"\s+(\S*)=\s*(PID\S*)")


def list_processes(pids: Collection[int], ps_args: str) -> Processes:
    """Run ps with ``ps_args`` (words) and keep the rows of ``pids``. Errors: InvalidArgument, NotImplementedByUs."""
    words = (ps_args or "-ef").split()
    if "\0" in ps_args:
        raise InvalidArgument("ps: an argument has a NUL in it")
    for name, title in RENAMED_PID.findall(" " + " ".join(words)):
        if name != "pid":
            raise InvalidArgument(f'specifying "{name}={title}" is not allowed')
    only = "-q" + ",".join(map(str, sorted(pids)))
    answer = _run([*words, only])
    if answer.returncode:  # some options (as f) do not go with -q
        answer = _run(words)
    if answer.returncode:
        why = answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"]
        raise InvalidArgument(f"ps: {why[0].removeprefix('ps: ')}")
    return parse(answer.stdout, pids)


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["ps", *words], capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise NotImplementedByUs("docker top needs the package procps on the host") from None
    except subprocess.TimeoutExpired as error:
        raise DockyardError(f"ps: {error}") from error


def parse(text: str, pids: Collection[int]) -> Processes:
    """Keep the rows of ``pids``, and those of their threads (``-`` for a pid). Errors: InvalidArgument (no PID)."""
    first, *lines = text.split("\n")
    titles = first.split()
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    return Processes(titles=titles, processes=list(_rows(lines, titles.index("PID"), len(titles), pids)))


def _rows(lines: list[str], pid_column: int, columns: int, pids: Collection[int]) -> Iterator[list[str]]:
    wanted = False
    for line in filter(str.strip, lines):
        cells = BLANKS.split(line.strip(" \t\f\r"), columns - 1)
        if len(cells) <= pid_column:
            continue
        if cells[pid_column] != "-":
            if not cells[pid_column].isdigit():
                raise InvalidArgument(f"Unexpected pid '{cells[pid_column]}'")
            wanted = int(cells[pid_column]) in pids
        if wanted:
            yield cells
