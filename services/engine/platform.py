"""Platforms: ``os[/architecture[/variant]]`` as users write them (containerd's platforms.Parse), and images' own."""

from __future__ import annotations

import re

from services.engine import host
from shared.protocol import Image, InvalidArgument, NotFound

__all__ = ["check_platform"]

WORD = re.compile(r"[A-Za-z0-9_.-]+")
SYSTEMS = "aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris windows".split()
ARCHITECTURES = (
    "386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le ppc ppc64 ppc64le riscv riscv64 "
    "s390 s390x sparc sparc64 wasm"
).split()
OTHER_NAMES = {"i386": "386", "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm"}
OWN_VARIANTS = {("arm64", "v8"), ("arm", "v7"), ("amd64", "v1")}  # they go without saying


def check_platform(ref: str, image: Image, wanted: str) -> None:
    """Errors: InvalidArgument (``wanted`` is no platform), NotFound (the image is for another)."""
    if not wanted:
        return
    system, architecture, variant = _parse(wanted)
    if (
        system == image.os
        and architecture == image.architecture
        and (not variant or variant == image.variant or (architecture, variant) in OWN_VARIANTS)
    ):
        return
    asked = "/".join(word for word in (system, architecture, variant) if word)
    actual = "/".join(word for word in (image.os, image.architecture, image.variant) if word)
    raise NotFound(
        f"image with reference {ref} was found but does not match the specified platform: "
        f"wanted {asked}, actual: {actual}"
    )


def _parse(text: str) -> tuple[str, str, str]:
    """Return system, architecture and variant; what is not said is this host's. Errors: InvalidArgument."""
    words = text.split("/")
    if len(words) > 3 or not all(WORD.fullmatch(word) for word in words):
        raise InvalidArgument(f"{text!r}: invalid platform specifier")
    words = [OTHER_NAMES.get(word.lower(), word.lower()) for word in words]
    if len(words) == 1:
        if words[0] in SYSTEMS:
            return words[0], host.facts().architecture, ""
        if words[0] in ARCHITECTURES:
            return "linux", words[0], ""
        raise InvalidArgument(f"{text!r}: unknown operating system or architecture")
    return words[0], words[1], words[2] if len(words) == 3 else ""
