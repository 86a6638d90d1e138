"""Platforms: os/architecture/variant (OCI image-spec 1.1, index §platform), as users write them, and what serves whom.

The rules are those of containerd's platforms package: `Parse`, `Normalize` and `Only`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.protocol import InvalidArgument
from shared.runtime.machine import architecture

__all__ = ["Platform", "host_platform", "normal", "parse_platform"]

OS = "linux"
SAME = {
    "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armhf": "arm/v7",
    "armel": "arm/v6", "armv7l": "arm/v7", "armv6l": "arm/v6",
}  # fmt: skip
SYSTEMS = "aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris windows".split()
ARCHITECTURES = (
    "386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le ppc ppc64 ppc64le riscv riscv64 "
    "s390 s390x sparc sparc64 wasm"
).split()
USUAL = {"arm64": 8, "arm": 7, "amd64": 1}  # variants that go without saying
OLDEST = {"arm64": 8, "arm": 5, "amd64": 1}
PART = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Platform:
    """``variant`` is empty where it is the architecture's usual one."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, [self.os, self.architecture, self.variant]))

    @property
    def written_variant(self) -> str:
        """The variant as images and build arguments have it: arm never goes without."""
        return self.variant or (f"v{USUAL['arm']}" if self.architecture == "arm" else "")

    def rank(self, offered: Platform) -> int | None:
        """Say how well an image's platform serves this one: less is better, None not at all."""
        return next((rank for rank, served in enumerate(self._served_by()) if served == offered), None)

    def is_served_by(self, os: str, architecture: str, variant: str) -> bool:
        """Say whether an image does, by its config, which may leave out the variant."""
        offered = normal(os, architecture, variant)
        same = (self.os, self.architecture) == (offered.os, offered.architecture)
        return self.rank(offered) is not None or (same and not variant)

    def _served_by(self) -> Iterator[Platform]:
        """This platform, and the ones whose programs run on it too, the best first."""
        yield self
        yield from _down_from(Platform(self.os, self.architecture), _level(self) - 1)
        if self.architecture == "amd64":
            yield Platform(self.os, "386")
        if self.architecture == "arm64":
            yield from _down_from(Platform(self.os, "arm"), USUAL["arm64"])

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
    return Platform(os.lower(), architecture, "" if variant == f"v{USUAL.get(architecture)}" else variant)


def _down_from(platform: Platform, level: int) -> Iterator[Platform]:
    oldest = OLDEST.get(platform.architecture, level + 1)
    return (normal(platform.os, platform.architecture, f"v{one}") for one in range(level, oldest - 1, -1))


def _level(platform: Platform) -> int:
    """Return the number of a variant, where each runs what is for a lower one; else 0."""
    text = platform.variant.removeprefix("v") or str(USUAL.get(platform.architecture, ""))
    return int(text) if platform.architecture in USUAL and re.fullmatch(r"[0-9]{1,2}", text) else 0


def host_platform() -> Platform:
    return normal(OS, architecture(), "")


def parse_platform(text: str) -> Platform:
    """Read ``os``, ``architecture``, ``os/architecture`` or ``os/architecture/variant``. Errors: InvalidArgument."""
    parts = text.split("/")
    if len(parts) > 3 or not all(map(PART.fullmatch, parts)):
        raise InvalidArgument(f'"{text[:100]}": cannot parse platform specifier: invalid argument')
    if len(parts) > 1:
        return normal(parts[0], parts[1], parts[2] if len(parts) == 3 else "")
    found = normal(OS, parts[0], "")
    if parts[0].lower() in SYSTEMS:
        return Platform(parts[0].lower(), host_platform().architecture, host_platform().variant)
    if found.architecture in ARCHITECTURES:
        return found
    raise InvalidArgument(f'"{text[:100]}": unknown operating system or architecture: invalid argument')
