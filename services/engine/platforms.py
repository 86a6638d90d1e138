"""Platforms, as clients ask for them: ``os[/architecture[/variant]]`` (containerd; OCI image-spec §config)."""

from __future__ import annotations

import re

from services.engine.host import facts
from shared.protocol import Image, InvalidArgument, NotFound

__all__ = ["check_platform"]

WORD = re.compile(r"[a-z0-9_.-]+")
SYSTEMS = ("linux", "windows", "darwin", "freebsd")
SAME = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
USUAL = {"arm64": "v8", "arm": "v7", "amd64": "v1"}  # the variant that is meant where none is named
MAX_PARTS = 3


def check_platform(asked: str, ref: str, image: Image) -> None:
    """Errors: InvalidArgument (no platform), NotFound (the image is of another one), in Docker's words."""
    if not asked:
        return
    parts = asked.lower().split("/")
    if len(parts) > MAX_PARTS or not all(WORD.fullmatch(part) for part in parts):
        raise InvalidArgument(f"{asked!r}: invalid platform: an os, and perhaps an architecture and its variant")
    if len(parts) == 1:
        parts = [parts[0], facts().architecture] if parts[0] in SYSTEMS else ["linux", parts[0]]
    wanted, actual = _complete(*parts), _complete(image.os, image.architecture, image.variant)
    if wanted != actual:
        shown = "/".join(filter(None, (image.os, image.architecture, image.variant)))
        raise NotFound(
            f"image with reference {ref} was found but does not match the specified platform: "
            f"wanted {asked}, actual: {shown}"
        )


def _complete(system: str, architecture: str, variant: str = "") -> tuple[str, str, str]:
    architecture = SAME.get(architecture, architecture)
    return system, architecture, variant or USUAL.get(architecture, "")
