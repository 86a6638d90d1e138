"""Reasons: why the operating system refused something, in the words of errors that users see."""

from __future__ import annotations

__all__ = ["reason"]


def reason(error: OSError) -> str:
    """Return what is wrong, and with which file: ``/x: no space left on device``, without Python's errno."""
    if not error.strerror:
        return str(error)
    told = error.strerror[:1].lower() + error.strerror[1:]
    return f"{error.filename}: {told}" if isinstance(error.filename, str) else told
