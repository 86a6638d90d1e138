"""Endpoints: which URLs a registry's name stands for, in the order in which they are tried."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from services.graphdriver.registry.references import DEFAULT_DOMAIN
from shared.runtime.config import Config

__all__ = ["HUB", "Endpoint", "Endpoints", "addresses_of"]

HUB = "https://registry-1.docker.io"
LOOPBACK = ("127.0.0.0/8",)


@dataclass(frozen=True)
class Endpoint:
    """``url`` is scheme://host[:port]. ``is_mirror``: it gets no credentials, and others are asked if it fails."""

    url: str
    is_mirror: bool = False


def addresses_of(host: str) -> list[str]:
    """Resolve a name; one that has no address has none."""
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


class Endpoints:
    def __init__(self, config: Config, resolve: Callable[[str], list[str]] = addresses_of) -> None:
        self._mirrors = [mirror.rstrip("/") for mirror in config.registry_mirrors]
        self._names = {entry for entry in config.insecure_registries if "/" not in entry}
        networks = [entry for entry in config.insecure_registries if "/" in entry]
        self._networks = [ip_network(network) for network in (*networks, *LOOPBACK)]
        self._resolve = resolve

    def of(self, domain: str, *, to_push: bool = False) -> list[Endpoint]:
        """``domain``: host[:port]. Pulls from Docker Hub go to its mirrors first."""
        if domain == DEFAULT_DOMAIN:
            mirrors = [] if to_push else [Endpoint(mirror, is_mirror=True) for mirror in self._mirrors]
            return [*mirrors, Endpoint(HUB)]
        schemes = ("https", "http") if self.is_insecure(domain) else ("https",)
        return [Endpoint(f"{scheme}://{domain}") for scheme in schemes]

    def is_insecure(self, domain: str) -> bool:
        """Say whether a host[:port] may speak plain HTTP, or show any certificate."""
        if domain in self._names:
            return True
        host = urlsplit(f"//{domain}").hostname or ""
        try:
            addresses = [ip_address(host)]
        except ValueError:
            addresses = [ip_address(text.partition("%")[0]) for text in self._resolve(host)]
        return any(address in network for address in addresses for network in self._networks)
