"""What can go wrong, classified by what the caller should do about it.

DockyardError                code ``internal``: a bug or a broken machine; nothing the caller can mend
├── InvalidArgument          the request is wrong; do not send it again
│   ├── CommandNotFound      the container's command does not exist (exit code 127)
│   └── CommandNotExecutable the container's command may not be executed (exit code 126)
├── Unauthorized             credentials are missing or wrong
├── PermissionDenied         the caller may not
├── NotFound                 no such thing
│   └── JobNotFound          nobody registered that job name (job status 127)
├── Conflict                 the thing's state forbids it now
├── NotModified              it is so already
├── NotImplementedByUs       dockyard does not do this (code ``not_implemented``)
├── Unavailable              a process is away or late; try again
└── Cancelled                the caller gave up
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ERRORS",
    "Cancelled",
    "CommandNotExecutable",
    "CommandNotFound",
    "Conflict",
    "DockyardError",
    "InvalidArgument",
    "JobNotFound",
    "NotFound",
    "NotImplementedByUs",
    "NotModified",
    "PermissionDenied",
    "Unauthorized",
    "Unavailable",
    "from_code",
]

STATUS_OK, STATUS_ERROR, STATUS_NOT_FOUND = 0, 1, 127


class DockyardError(Exception):
    """Root of all errors that cross a process border; the wire carries ``code`` and the message."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = STATUS_ERROR

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else self.code


class InvalidArgument(DockyardError):
    code = "invalid_argument"


class CommandNotFound(InvalidArgument):
    code = "command_not_found"


class CommandNotExecutable(InvalidArgument):
    code = "command_not_executable"


class Unauthorized(DockyardError):
    code = "unauthorized"


class PermissionDenied(DockyardError):
    code = "permission_denied"


class NotFound(DockyardError):
    code = "not_found"


class JobNotFound(NotFound):
    code = "job_not_found"
    status = STATUS_NOT_FOUND


class Conflict(DockyardError):
    code = "conflict"


class NotModified(DockyardError):
    code = "not_modified"


class NotImplementedByUs(DockyardError):
    code = "not_implemented"


class Unavailable(DockyardError):
    code = "unavailable"


class Cancelled(DockyardError):
    code = "cancelled"


def _tree(root: type[DockyardError]) -> list[type[DockyardError]]:
    return [root, *(error for child in root.__subclasses__() for error in _tree(child))]


ERRORS: dict[str, type[DockyardError]] = {error.code: error for error in _tree(DockyardError)}


def from_code(code: str, message: str) -> DockyardError:
    """Rebuild an error from the wire; an unknown code is ``internal``."""
    return ERRORS.get(code, DockyardError)(message)
