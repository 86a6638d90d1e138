"""Platforms: whether an image is for the one that somebody asks for."""

from __future__ import annotations

from shared.protocol import Image, NotFound
from shared.runtime.platforms import normal, parse_platform

__all__ = ["check_platform"]


def check_platform(ref: str, image: Image, wanted: str) -> None:
    """Errors: InvalidArgument (``wanted`` is no platform), NotFound (the image is for another)."""
    if not wanted:
        return
    asked, actual = parse_platform(wanted), normal(image.os, image.architecture, image.variant)
    same = (asked.os, asked.architecture) == (actual.os, actual.architecture)
    if asked.rank(actual) is None and (not same or image.variant):  # an image's config may leave out its variant
        raise NotFound(
            f"image with reference {ref} was found but does not match the specified platform: "
            f"wanted {asked}, actual: {actual}"
        )
