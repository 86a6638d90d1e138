"""Git: a repository, fetched with the program `git`, as a build context.

``https://host/repo.git#REF:DIRECTORY``: a branch, a tag or a commit; the directory in it that is the context. What
the user says is never an option of git's: addresses stand behind ``--``, and a ref may not begin with a dash.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from services.builder.sources import clean, follow, walk
from services.builder.tarstream import Item, chunks
from services.builder.trees import Tree
from shared.bus.context import check_cancelled
from shared.protocol import DockyardError, InvalidArgument

__all__ = ["clone", "is_git"]

PREFIXES = ("git://", "github.com/", "git@")
WEB = re.compile(r"https?://[^#]+\.git(?:#.*)?")
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@-]*")
POLL_INTERVAL = 0.1  # seconds
SETTINGS = {"core.hooksPath": "/dev/null", "advice.detachedHead": "false", "credential.helper": ""}
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def is_git(remote: str) -> bool:
    return remote.startswith(PREFIXES) or WEB.fullmatch(remote) is not None


def clone(remote: str, temporary: Path, file: IO[bytes]) -> None:
    """Write a repository's files as a tar. Errors: InvalidArgument, DockyardError (what git said), Cancelled."""
    address, _, fragment = remote.partition("#")
    ref, _, directory = fragment.partition(":")
    address = f"https://{address}" if address.startswith("github.com/") else address
    if ref and not REF.fullmatch(ref):
        raise InvalidArgument(f"invalid refspec: {ref}")
    if shutil.which("git") is None:
        raise DockyardError("unable to prepare context: unable to find 'git': install it to build from a repository")
    with tempfile.TemporaryDirectory(dir=temporary) as place:
        work = Path(place) / "work"
        work.mkdir()
        _fetch(work, address, ref)
        shutil.rmtree(work / ".git")
        _write(work, directory, file)


def _fetch(work: Path, address: str, ref: str) -> None:
    _git(work, "init", "--quiet")
    _git(work, "remote", "add", "--", "origin", address)
    try:
        _git(work, "fetch", "--quiet", "--depth", "1", "--", "origin", ref or "HEAD")
        wanted = "FETCH_HEAD"
    except DockyardError:  # a server that cannot give a part, or not a commit by its name
        _git(work, "fetch", "--quiet", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*", "HEAD")
        wanted = _resolved(work, ref) if ref else "FETCH_HEAD"
    _git(work, "checkout", "--quiet", "--force", wanted)
    if (work / ".gitmodules").is_file():
        command = ("submodule", "update", "--quiet", "--init", "--recursive")
        try:
            _git(work, *command, "--depth", "1")
        except DockyardError:  # as above
            _git(work, *command)


def _resolved(work: Path, ref: str) -> str:
    for candidate in (f"refs/remotes/origin/{ref}", f"refs/tags/{ref}", ref):
        try:
            return _git(work, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}").strip()
        except DockyardError:
            continue
    raise DockyardError(f"failed to fetch remote: there is no {ref}")


def _git(work: Path, *arguments: str) -> str:
    """Run git, and end it when the build is cancelled; with us it ends by itself."""
    settings = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
    command = ["setpriv", "--pdeathsig", "KILL", "git", *settings, *arguments]
    environment = {**os.environ, **ENVIRONMENT, "HOME": str(work.parent)}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=work, env=environment, umask=0o022, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        with _ended_with_us(process):
            while True:
                try:
                    status = process.wait(POLL_INTERVAL)
                    break
                except subprocess.TimeoutExpired:
                    check_cancelled()
        output.seek(0)
        text = output.read(1 << 16).decode("utf-8", "replace")
    if status:
        raise DockyardError(f"error fetching: git {arguments[0]}: {text.strip() or f'exit status {status}'}")
    return text


@contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _write(work: Path, directory: str, file: IO[bytes]) -> None:
    root = os.open(work, os.O_PATH | os.O_DIRECTORY)
    try:
        source = Tree(root)
        path = follow(source, clean(directory))
        entry = source.entry(path)
        if entry is None or not entry.is_directory:
            raise InvalidArgument(f"error setting git context directory: there is no {directory}")
        below = ((name, found) for name, found in walk(source, path) if name)
        for chunk in chunks(Item(name, found, source, f"{path}/{name}".strip("/")) for name, found in below):
            file.write(chunk)
    finally:
        os.close(root)
    file.flush()
