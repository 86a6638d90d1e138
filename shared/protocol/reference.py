"""Image references: ``[domain/]path[:tag][@digest]`` (the distribution specification's reference grammar)."""

from __future__ import annotations

import re

from shared.protocol.errors import InvalidArgument

__all__ = ["DIGEST", "TAG", "familiar", "normalize", "repository_of", "split", "with_tag"]

DEFAULT_DOMAIN, LEGACY_DOMAIN, OFFICIAL = "docker.io", "index.docker.io", "library/"
DEFAULT_TAG = "latest"
MAX_NAME_LENGTH, MAX_LENGTH = 255, 1000  # characters of a repository's name, of a reference with tag and digest
MAX_PORT = 65535

COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
DOMAIN = rf"(?:{LABEL}(?:\.{LABEL})*|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]+))?"
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
REFERENCE = re.compile(
    rf"(?P<domain>{DOMAIN})/(?P<path>{COMPONENT}(?:/{COMPONENT})*)"
    rf"(?::(?P<tag>{TAG.pattern}))?(?:@(?P<digest>{DIGEST.pattern}))?"
)
ID = re.compile(r"[0-9a-f]{64}")


def normalize(ref: str) -> str:
    """Return the complete form: ``busybox`` → ``docker.io/library/busybox:latest``. Errors: InvalidArgument.

    A reference with a digest keeps it and gets no default tag.
    """
    domain, path, tag, digest = split(ref)
    if not tag and not digest:
        tag = DEFAULT_TAG
    return f"{domain}/{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def with_tag(repo: str, tag: str) -> str:
    """Return the complete form of a name and a tag, which wins over the name's own. Errors: InvalidArgument."""
    if not tag:
        return normalize(repo)
    domain, path, _, digest = split(repo)
    if not TAG.fullmatch(tag):
        raise InvalidArgument("invalid tag format")
    return f"{domain}/{path}:{tag}" + (f"@{digest}" if digest else "")


def split(ref: str) -> tuple[str, str, str, str]:
    """Return (domain, path, tag, digest), the last two empty where they are not given. Errors: InvalidArgument."""
    if ID.fullmatch(ref):
        raise InvalidArgument(f"invalid repository name ({ref}), cannot specify 64-byte hexadecimal strings")
    match = REFERENCE.fullmatch(_with_domain(ref)) if len(ref) <= MAX_LENGTH else None
    if match is None or int(match["port"] or 0) > MAX_PORT:
        if re.search("[A-Z]", ref.split("@", maxsplit=1)[0].rpartition(":")[0] or ref):
            raise InvalidArgument("invalid reference format: repository name must be lowercase")
        raise InvalidArgument("invalid reference format")
    domain, path = match["domain"], match["path"]
    if len(domain) + 1 + len(path) > MAX_NAME_LENGTH:
        raise InvalidArgument(f"repository name must not be more than {MAX_NAME_LENGTH} characters")
    return domain, path, match["tag"] or "", match["digest"] or ""


def _with_domain(ref: str) -> str:
    first, slash, rest = ref.partition("/")
    is_domain = slash and (first == "localhost" or any(c in ".:" or c.isupper() for c in first))
    if not is_domain:
        first, rest = DEFAULT_DOMAIN, ref
    if first == LEGACY_DOMAIN:
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = OFFICIAL + rest
    return f"{first}/{rest}"


def repository_of(full: str) -> str:
    """Return the name in a complete reference by tag or by digest."""
    name, at, _ = full.partition("@")
    return name if at else full.rpartition(":")[0]


def familiar(full: str) -> str:
    """Return the form that people use: ``docker.io/library/busybox:latest`` → ``busybox:latest``."""
    rest = full.removeprefix(f"{DEFAULT_DOMAIN}/")
    official = rest.removeprefix(OFFICIAL)
    short = rest if "/" in official else official
    return short if rest != full and _with_domain(short) == full else full
