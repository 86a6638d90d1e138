"""Platforms: os/architecture/variant (OCI image-spec 1.1, index §platform), and which of an index's entries fits."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from typing import Any

from services.graphdriver.load import ARCHITECTURES
from shared.protocol import InvalidArgument

__all__ = ["Platform", "host_platform", "parse_platform"]

OS = "linux"
SAME = {
    "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armhf": "arm/v7",
    "armel": "arm/v6", "armv7l": "arm/v7", "armv6l": "arm/v6",
}  # fmt: skip
DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
PART = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Platform:
    """``variant`` is empty where it is the architecture's usual one."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, [self.os, self.architecture, self.variant]))

    def rank(self, offered: Platform) -> int | None:
        """Say how well an image's platform serves this one: less is better, None not at all."""
        if (self.os, self.architecture) != (offered.os, offered.architecture):
            return None
        if self.variant == offered.variant:
            return 0
        wanted, found = _level(self), _level(offered)
        return wanted - found if self.architecture == "arm" and 0 < found < wanted else None

    @classmethod
    def of(cls, given: dict[str, Any]) -> Platform:
        """Read an entry's ``platform``; what is no text is nothing."""
        texts = [
            value if isinstance(value := given.get(name), str) else "" for name in ("os", "architecture", "variant")
        ]
        return normal(*texts)


def normal(os: str, architecture: str, variant: str) -> Platform:
    architecture, _, implied = SAME.get(architecture.lower(), architecture.lower()).partition("/")
    variant = variant.lower() or implied
    variant = f"v{variant}" if variant.isdecimal() else variant
    return Platform(os.lower(), architecture, "" if variant == DEFAULT_VARIANTS.get(architecture) else variant)


def _level(platform: Platform) -> int:
    text = (platform.variant or DEFAULT_VARIANTS.get(platform.architecture, "")).removeprefix("v")
    return int(text) if text.isdecimal() else 0


def host_platform() -> Platform:
    machine = platform.machine()
    return normal(OS, ARCHITECTURES.get(machine, machine), "")


def parse_platform(text: str) -> Platform:
    """Read ``os``, ``architecture``, ``os/architecture`` or ``os/architecture/variant``. Errors: InvalidArgument."""
    parts = text.split("/")
    if len(parts) > 3 or not all(map(PART.fullmatch, parts)):
        raise InvalidArgument(f'"{text[:100]}" is an invalid platform: os/arch[/variant] is wanted')
    if len(parts) == 1:
        if parts[0].lower() in ("linux", "windows", "darwin", "freebsd"):
            return Platform(parts[0].lower(), host_platform().architecture, host_platform().variant)
        return normal(OS, parts[0], "")
    return normal(parts[0], parts[1], parts[2] if len(parts) == 3 else "")
