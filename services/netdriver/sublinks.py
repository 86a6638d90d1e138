"""Sublinks: requests for links on another link, their parent: macvlan and ipvlan (if_link.h)."""

from __future__ import annotations

from typing import Any

from pyroute2.netlink import nla
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ifinfmsg.plugins.ipvlan import ipvlan

from services.netdriver.netlink import NEW, Message, link_message

__all__ = ["add_link_on"]

MODES: dict[str, dict[str, tuple[str, int]]] = {  # kind → mode → attribute and value
    "macvlan": {
        mode: ("IFLA_MACVLAN_MODE", 1 << bit) for bit, mode in enumerate(("private", "vepa", "bridge", "passthru"))
    },
    "ipvlan": {mode: ("IFLA_IPVLAN_MODE", number) for number, mode in enumerate(("l2", "l3", "l3s"))},
}
IPVLAN_FLAGS: dict[str, list[tuple[str, int]]] = {
    "bridge": [],  # so that kernels before 4.15 understand
    "private": [("IFLA_IPVLAN_FLAGS", 1)],
    "vepa": [("IFLA_IPVLAN_FLAGS", 2)],
}


class Macvlan(nla):  # type: ignore[misc]
    """The mode as the kernel's number (if_link.h)."""

    nla_map = (("IFLA_MACVLAN_UNSPEC", "none"), ("IFLA_MACVLAN_MODE", "uint32"))


class Ipvlan(ipvlan):  # type: ignore[misc]
    """With the attribute that pyroute2 leaves out (if_link.h)."""

    nla_map = (*ipvlan.nla_map, ("IFLA_IPVLAN_FLAGS", "uint16"))


ifinfmsg.ifinfo.register_link_kind(module={"macvlan": Macvlan, "ipvlan": Ipvlan})


def add_link_on(
    parent: int,
    name: str,
    *,
    kind: str,
    mode: str,
    flag: str = "bridge",
    mac_address: str = "",
    index: int = 0,
    netns: int | None = None,
) -> Message:
    """A macvlan or ipvlan link on the link ``parent``, in the namespace open as ``netns``. It is down.

    ``flag`` is ipvlan's: bridge, private, vepa. The last one given is that of all on the parent.
    Fails with EOPNOTSUPP where the kernel has none of that kind.
    """
    data = [MODES[kind][mode], *IPVLAN_FLAGS[flag]]
    info = {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]}
    own: dict[str, Any] = {"IFLA_LINK": parent}
    if mac_address and kind == "macvlan":  # ipvlan has its parent's
        own["IFLA_ADDRESS"] = mac_address
    if netns is not None:
        own["IFLA_NET_NS_FD"] = netns
    message = link_message(NEW, IFLA_IFNAME=name, **own, IFLA_LINKINFO=info)
    message.fields["index"] = index
    return message
