"""CORS: which web pages may use the API, by their origin (the Fetch standard, §3.2)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["cors_headers"]

METHODS = "HEAD, GET, POST, DELETE, PUT, OPTIONS"
HEADERS = "Origin, X-Requested-With, Content-Type, Accept, X-Registry-Auth, X-Registry-Config"


def cors_headers(origins: Collection[str], environ: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what an answer has to carry: nothing without origins, and no permission for others than these."""
    if not origins:
        return []
    origin = environ.get("HTTP_ORIGIN", "")
    allowed = "*" if "*" in origins else origin if origin in origins else ""
    varying = [] if allowed == "*" else [("Vary", "Origin")]
    permission = [
        ("Access-Control-Allow-Origin", allowed),
        ("Access-Control-Allow-Headers", HEADERS),
        ("Access-Control-Allow-Methods", METHODS),
    ]
    return varying + (permission if allowed else [])
