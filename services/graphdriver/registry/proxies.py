"""Proxies: what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say, in upper or lower case."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

__all__ = ["Proxies"]


class Proxies:
    """This host itself is never asked by way of a proxy."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._proxies = {scheme: _variable(environ, f"{scheme}_proxy") for scheme in ("http", "https")}
        self._excepted = [entry.strip().lower() for entry in _variable(environ, "no_proxy").split(",") if entry.strip()]

    def of(self, url: str) -> str | None:
        """Return the proxy's URL, None for a direct connection."""
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        proxy = self._proxies.get(parts.scheme, "")
        if not proxy or _is_here(host) or any(_matches(entry, host, parts.port) for entry in self._excepted):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name) or ""


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(entry: str, host: str, port: int | None) -> bool:
    """Say whether an entry of NO_PROXY (*, a domain, an address, a network; perhaps with a port) names the host."""
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name, _, wanted_port = entry.partition(":")
    if wanted_port and wanted_port != str(port):
        return False
    domain = name.removeprefix("*").removeprefix(".")
    return host == name or host.endswith(f".{domain}") or (not name.startswith((".", "*")) and host == domain)
