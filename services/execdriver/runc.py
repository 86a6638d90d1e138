"""runc as the OCI runtime: it keeps its state as crun does, starts by its own program, and says what clients expect."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from services.execdriver.crun import RUNC_PHRASE, Crun
from shared.protocol import CommandNotExecutable, CommandNotFound, DockyardError, InvalidArgument

__all__ = ["Runc"]

log = logging.getLogger("dockyard.execdriver")

EXEC_PHRASE = "OCI runtime exec failed: "
# of its log, as logrus writes it: level=error msg="…"
MESSAGE = re.compile(r'level=(?:error|fatal) msg="((?:[^"\\]|\\.)*)"')
REASONS: tuple[tuple[str, type[DockyardError]], ...] = (
    (r'exec: ".*": .*(not found in \$PATH|no such file or directory)', CommandNotFound),
    (r'exec: ".*": .*(permission denied|is a directory|operation not permitted)', CommandNotExecutable),
    (r"chdir to cwd .*no such file or directory", CommandNotFound),
    (r"chdir to cwd .*(permission denied|not a directory)", CommandNotExecutable),
    (r"exec format error", InvalidArgument),
)


class Runc(Crun):
    def __init__(self, program: str, root: Path) -> None:
        super().__init__(program, root)
        self.arguments = [f"--root={root}"]

    def exec_command(self, *, sized: bool) -> list[str]:
        return [self.path, *self.arguments]

    def start(self, container: str) -> None:
        self._start_by_program(container)

    def create_error(self, message: str, args: list[str]) -> DockyardError:
        return _error(f"create failed command={args[0]}", RUNC_PHRASE, message)

    def exec_error(self, message: str, args: list[str], working_dir: str) -> DockyardError:
        return _error(f"exec failed command={args[0]}", EXEC_PHRASE, message)


def _error(event: str, phrase: str, message: str) -> DockyardError:
    """Put runc's words behind the phrase that clients know, and tell from them whose fault it is."""
    found = MESSAGE.search(message)
    text = re.sub(r"\\(.)", r"\1", found[1]) if found else message.strip()
    log.info("%s runtime=%s", event, text)
    if text.endswith("is a directory"):  # runc from 1.1.13 on; what clients look for is what it said before
        text += ": permission denied"
    kind = next((kind for pattern, kind in REASONS if re.search(pattern, text)), DockyardError)
    return kind(f"{phrase}{text}: unknown")
