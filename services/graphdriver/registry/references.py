"""References: what a pull or a push was asked for, and how messages name it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.protocol import InvalidArgument
from shared.protocol.reference import DEFAULT_DOMAIN, DIGEST, TAG, familiar, split

__all__ = ["DEFAULT_DOMAIN", "Reference"]


@dataclass(frozen=True)
class Reference:
    """A repository, or with a tag or a digest one image of it. ``domain`` is a registry's host[:port]."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, image: str, tag: str = "") -> Reference:
        """Read the API's pair: ``tag``, a tag or a digest, wins over that in ``image``. Errors: InvalidArgument."""
        domain, path, own_tag, digest = split(image.removesuffix(":"))
        if not tag:
            return cls(domain, path, own_tag, digest)
        if DIGEST.fullmatch(tag):
            return cls(domain, path, "", tag)
        if not TAG.fullmatch(tag):
            raise InvalidArgument("invalid reference format" if "@" in tag or ":" in tag else "invalid tag format")
        return cls(domain, path, tag)

    @property
    def name(self) -> str:
        """The repository's complete name."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        return familiar(self.name)

    @property
    def wanted(self) -> str:
        """What the registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    @property
    def full(self) -> str:
        """The complete reference; a digest goes before a tag."""
        if self.digest:
            return f"{self.name}@{self.digest}"
        return f"{self.name}:{self.tag}" if self.tag else self.name

    @property
    def familiar(self) -> str:
        return familiar(self.full)

    def with_tag(self, tag: str) -> Reference:
        return replace(self, tag=tag, digest="")
