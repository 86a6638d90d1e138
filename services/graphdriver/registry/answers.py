"""Answers: how a registry says no (distribution-spec §error codes), and what that means to who asked."""

from __future__ import annotations

import json
from typing import Any

from services.graphdriver.registry.references import Reference
from shared.protocol import (
    Conflict,
    DockyardError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthorized,
)

__all__ = ["Refused", "message_of", "pull_error"]

MAX_TEXT = 1000  # characters of what a registry says that are passed on
BY_STATUS = {
    400: ("", InvalidArgument),
    401: ("UNAUTHORIZED", Unauthorized),
    403: ("DENIED", PermissionDenied),
    404: ("NOT_FOUND", NotFound),
    405: ("UNSUPPORTED", InvalidArgument),
    409: ("", Conflict),
    413: ("SIZE_INVALID", InvalidArgument),
    416: ("", InvalidArgument),
    429: ("TOOMANYREQUESTS", DockyardError),
}


class Refused(Exception):
    """A registry's answer that is an error. ``error_code`` is the specification's, as MANIFEST_UNKNOWN."""

    def __init__(self, status: int, data: bytes, url: str = "") -> None:
        code, text = _first(data)
        self.status, self.url = status, url
        self.error_code = code or BY_STATUS.get(status, ("", None))[0]
        word = self.error_code.lower().replace("_", " ")
        self.text = ": ".join(filter(None, [word, text])) or f"received unexpected HTTP status: {status}"
        super().__init__(self.text)

    @property
    def is_passing(self) -> bool:
        """Say whether the same request may be answered another time."""
        return self.status >= 500 or self.status in (408, 429)

    def error(self) -> DockyardError:
        """Return what it is to a job's caller."""
        kind = BY_STATUS.get(self.status, ("", DockyardError))[1]
        return kind(self.text)


def pull_error(refused: Refused, reference: Reference) -> DockyardError:
    """Return the error of a pull, in the words that clients look for (wire-details §2)."""
    match refused.error_code:
        case "DENIED" | "NO_CREDENTIALS":
            return NotFound(
                f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
                f"'docker login': {refused.text}"
            )
        case "MANIFEST_UNKNOWN" | "NOT_FOUND":
            return NotFound(f"manifest for {reference.familiar} not found: manifest unknown: {_tail(refused)}")
        case "NAME_UNKNOWN":
            return NotFound(f"repository {reference.familiar_name} not found: {refused.text}")
    return refused.error()


def _tail(refused: Refused) -> str:
    return refused.text.partition(": ")[2] or "manifest unknown"


def message_of(data: bytes) -> str:
    """Return what a body says of an error, in one of the forms that registries and token servers use."""
    code, text = _first(data)
    return text or code.lower().replace("_", " ")


def _first(data: bytes) -> tuple[str, str]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return "", ""
    errors = document.get("errors") if isinstance(document, dict) else None
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return _text(errors[0].get("code")), _text(errors[0].get("message"))
    if isinstance(document, dict):
        for key in ("error_description", "details", "message", "error"):
            if text := _text(document.get(key)):
                return "", text
    return "", ""


def _text(value: Any) -> str:
    return "".join(c for c in value[:MAX_TEXT] if c.isprintable()) if isinstance(value, str) else ""
