"""Platforms: whether an image is for the one that somebody asks for."""

from __future__ import annotations

from shared.protocol import Image, NotFound
from shared.runtime.platforms import Platform, host_platform, normal, parse_platform

__all__ = ["check_platform", "platform_warnings"]


def check_platform(ref: str, image: Image, wanted: str) -> None:
    """Errors: InvalidArgument (``wanted`` is no platform), NotFound (the image is for another)."""
    if not wanted:
        return
    asked = parse_platform(wanted)
    if not asked.is_served_by(image.os, image.architecture, image.variant):
        raise NotFound(
            f"image with reference {ref} was found but does not match the specified platform: "
            f"wanted {asked}, actual: {_platform(image)}"
        )


def platform_warnings(image: Image, wanted: str) -> list[str]:
    """Say that an image is not for this machine, where nobody asked for another platform."""
    host = host_platform()
    if wanted or not image.architecture or host.is_served_by(image.os, image.architecture, image.variant):
        return []
    return [
        f"The requested image's platform ({_platform(image)}) does not match the detected host platform ({host}) and "
        "no specific platform was requested"
    ]


def _platform(image: Image) -> Platform:
    return normal(image.os, image.architecture, image.variant)
