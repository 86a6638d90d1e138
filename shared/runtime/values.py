"""Values: what a single setting may hold. Each check raises ValueError; `Config` says where it applies."""

from __future__ import annotations

import os
import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import Path
from urllib.parse import urlsplit

__all__ = [
    "is_address",
    "is_amount",
    "is_bridge_address",
    "is_cgroup_driver",
    "is_count",
    "is_domain",
    "is_ipv4",
    "is_ipv6_bridge_address",
    "is_ipv6_network",
    "is_label",
    "is_link",
    "is_log_driver",
    "is_mirror",
    "is_endpoint",
    "is_mtu",
    "is_network",
    "is_origin",
    "is_pool",
    "is_registry",
    "is_run",
    "is_storage_driver",
    "is_storage_option",
    "parse_mac",
    "parse_pool",
]

LOG_DRIVERS = ("json-file", "local", "journald", "none")
CGROUP_DRIVERS = ("systemd", "cgroupfs")
STORAGE_DRIVERS = ("overlay", "vfs")
STORAGE_OPTIONS = {"overlay.index": ("on", "off")}
LABELS = ("user", "role", "type", "level")  # the parts of an SELinux context
DOMAIN = re.compile(
    r"(?=.*[a-zA-Z])[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*\.?"
)
MAX_POOL_SIZE, MAX_POOL_SIZE6 = 29, 125  # a bridge and five containers
MAC = re.compile(r"[0-9a-f]{2}((?P<between>[:-])[0-9a-f]{2})((?P=between)[0-9a-f]{2}){4}|([0-9a-f]{4}\.){2}[0-9a-f]{4}")
MULTICAST = 1  # in a MAC address's first byte
LINK, LINK_SIZE = re.compile(r"(?!\.{1,2}$)[^\s/:]+"), 15  # what the kernel takes as a link's name, and its bytes
RUN_SIZE = 87  # bytes; a socket's path has 107 (unix(7)), and the longest name in RUN is graphdriver.tickets
MIN_MTU, MAX_MTU = 68, 65535  # bytes: IPv4's least, a veth's most


def is_ipv4(text: str) -> None:
    IPv4Address(text)


def is_address(text: str) -> None:
    ip_address(text)


def is_bridge_address(text: str) -> None:
    """An address with the length of its network: 172.30.0.1/16."""
    interface = IPv4Interface(text)
    if interface.ip == interface.network.network_address or interface.network.prefixlen > 30:
        raise ValueError(f"{text!r} is not the address of a bridge, as 172.30.0.1/16")


def is_link(text: str) -> None:
    if not LINK.fullmatch(text) or len(text.encode()) > LINK_SIZE:
        raise ValueError(f"{text!r} is not the name of a bridge: {LINK_SIZE} bytes at most, without space, / and :")


def is_network(text: str) -> None:
    if "/" not in text:
        raise ValueError(f"{text!r} is not a network, as 172.30.8.0/24")
    IPv4Network(text)


def is_ipv6_bridge_address(text: str) -> None:
    """An address with the length of its network: fd00:30::1/64."""
    interface = IPv6Interface(text)
    if interface.ip == interface.network.network_address or interface.network.prefixlen > MAX_POOL_SIZE6:
        raise ValueError(f"{text!r} is not the address of a bridge, as fd00:30::1/64")


def is_ipv6_network(text: str) -> None:
    if "/" not in text:
        raise ValueError(f"{text!r} is not a network, as fd00:30::/64")
    IPv6Network(text)


def parse_pool(text: str) -> tuple[IPv4Network | IPv6Network, int]:
    """Read ``10.160.0.0/12/24``: a network, and the prefix length of the subnets that it is cut into."""
    base, slash, size = text.rpartition("/")
    if "/" not in base or not slash or not size.isdigit():
        raise ValueError(f"{text!r} is not an address pool, as 10.160.0.0/12/24")
    return ip_network(base), int(size)


def parse_mac(text: str) -> str:
    """Return the MAC address of one host with colons; it may have dashes, or dots as ``0242.ac11.0002``."""
    number = bytes.fromhex(re.sub("[:.-]", "", text)) if MAC.fullmatch(text.lower()) else b""
    if not any(number) or number[0] & MULTICAST:
        raise ValueError(f"invalid MAC address: {text}")
    return number.hex(":")


def is_pool(text: str) -> None:
    base, size = parse_pool(text)
    most = MAX_POOL_SIZE if base.version == 4 else MAX_POOL_SIZE6
    if not base.prefixlen <= size <= most:
        raise ValueError(f"{text!r}: subnets of /{base.prefixlen} to /{most} can be made of it")


def is_domain(text: str) -> None:
    """A domain to search; "." for none."""
    if text != "." and not (len(text) <= 255 and DOMAIN.fullmatch(text)):
        raise ValueError(f"{text} is not a valid domain")


def is_mirror(text: str) -> None:
    url = urlsplit(text)
    if url.scheme not in ("http", "https"):
        raise ValueError(f"{text!r}: unsupported scheme {url.scheme!r}, http or https is wanted")
    if not url.hostname or url.username is not None:
        raise ValueError(f"{text!r} is not scheme://host[:port]")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(f"{text!r}: unsupported path/query/fragment at end of the URI")
    _ = url.port  # raises for what is none


def is_run(path: Path) -> None:
    if len(os.fsencode(path)) > RUN_SIZE:
        raise ValueError(f"{path} is longer than {RUN_SIZE} bytes, and the path of a socket in it would be too long")


def is_registry(text: str) -> None:
    """A host with or without a port, or a network of them."""
    if "://" in text:
        raise ValueError(f"insecure registry {text} should not contain '://'")
    if "/" in text:
        ip_network(text)
    elif not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9][a-zA-Z0-9.-]*)(:\d{1,5})?", text):
        raise ValueError(f"{text!r} is not host[:port] and not a network")


def is_origin(text: str) -> None:
    """What a browser sends as Origin; "*" is any."""
    url = urlsplit(text)
    if text != "*" and (not url.scheme or not url.netloc or text != f"{url.scheme}://{url.netloc}"):
        raise ValueError(f"{text!r} is not an origin, as https://example.com:8443, or *")


def is_endpoint(text: str) -> None:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.netloc:
        raise ValueError(f"{text!r} is not a URL, as http://127.0.0.1:4318/v1/traces")


def is_cgroup_driver(text: str) -> None:
    if text not in CGROUP_DRIVERS:
        raise ValueError(f"{text!r} is none of {', '.join(CGROUP_DRIVERS)}")


def is_storage_driver(text: str) -> None:
    if text not in STORAGE_DRIVERS:
        raise ValueError(f"{text!r} is none of {', '.join(STORAGE_DRIVERS)}")


def is_log_driver(text: str) -> None:
    if text not in LOG_DRIVERS:
        raise ValueError(f"logger: no log driver named '{text}' is registered")


def is_storage_option(text: str) -> None:
    name, _, value = text.partition("=")
    if name not in STORAGE_OPTIONS:
        raise ValueError(f"unknown option {name}")
    if value not in STORAGE_OPTIONS[name]:
        raise ValueError(f"{name} is one of {', '.join(STORAGE_OPTIONS[name])}, not {value!r}")


def is_label(text: str) -> None:
    if text.partition(":")[0] not in LABELS:
        raise ValueError(f"{text!r} is not an SELinux label option, as type:container_t")


def is_mtu(size: int) -> None:
    if not MIN_MTU <= size <= MAX_MTU:
        raise ValueError(f"{size} is not from {MIN_MTU} to {MAX_MTU} bytes")


def is_amount(seconds: float) -> None:
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{seconds} is not an amount of seconds")


def is_count(number: int) -> None:
    if number < 0:
        raise ValueError(f"{number} is less than 0")
