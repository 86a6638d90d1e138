"""Rules: what our one nftables table says, as text for nft(8).

The rules never change. Networks, published ports and links are elements of sets and maps, one family of addresses each:

| set or map                      | element                                                                  |
|---------------------------------|--------------------------------------------------------------------------|
| ``bridges``, ``internal``       | a bridge of ours; one that nothing leads out of                          |
| ``among``                       | a bridge twice: its containers may talk to each other                    |
| ``homeN``, ``masqueradedN``     | a subnet with its bridge; a subnet whose packets leave with our address  |
| ``leavingN``                    | a subnet → the address of the host's that its packets leave with instead  |
| ``publishedN``, ``published_atN`` | ([host address,] protocol, port) → (container's address, its port)     |
| ``openN``, ``routedN``          | a subnet with its bridge: all of it may be reached from outside; only by |
|                                 | echo requests, and what is admitted                                      |
| ``trusted``                     | (a link of the host's, a bridge): from there what is admitted            |
| ``admittedN``                   | (container's address, protocol, its port)                                |
| ``links``                       | (parent, child, protocol, port): allowed although containers are shut off |

The chain ``operator`` is the host operator's: asked before ours, made once, and never changed or emptied by us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from services.netdriver.leases import Peer
from shared.protocol import AllocatedPort

__all__ = [
    "CHAINS",
    "MAPS",
    "SETS",
    "Link",
    "Network",
    "Policy",
    "Zone",
    "admitted_element",
    "link_element",
    "port_element",
    "port_value",
    "render",
    "zone_elements",
]

Network = IPv4Network | IPv6Network
Elements = list[tuple[str, str]]  # (set or map, element)
Link = tuple[str, Peer]  # (address of who may, what he may reach)
ANY = ("0.0.0.0", "::")
REACHABLE = {"routed": "routed", "nat-unprotected": "open"}  # mode → the set that its subnets are in

# A key of one part says what it is of: written down as a plain type by nft 1.1 it makes nft 1.0.6 crash (Debian 12).
SETS = {
    "bridges": "typeof iifname",
    "internal": "typeof iifname",
    "among": "type ifname . ifname",
    "home4": "type ipv4_addr . ifname; flags interval",
    "home6": "type ipv6_addr . ifname; flags interval",
    "masqueraded4": "typeof ip saddr; flags interval",
    "masqueraded6": "typeof ip6 saddr; flags interval",
    "open4": "type ipv4_addr . ifname; flags interval",
    "open6": "type ipv6_addr . ifname; flags interval",
    "routed4": "type ipv4_addr . ifname; flags interval",
    "routed6": "type ipv6_addr . ifname; flags interval",
    "trusted": "type ifname . ifname",
    "admitted4": "type ipv4_addr . inet_proto . inet_service",
    "admitted6": "type ipv6_addr . inet_proto . inet_service",
    "links": "type ipv4_addr . ipv4_addr . inet_proto . inet_service",
}
MAPS = {
    "leaving4": "typeof ip saddr : ip daddr; flags interval",
    "leaving6": "typeof ip6 saddr : ip6 daddr; flags interval",
    "published4": "type inet_proto . inet_service : ipv4_addr . inet_service",
    "published_at4": "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    "published6": "type inet_proto . inet_service : ipv6_addr . inet_service",
    "published_at6": "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
}
CHAINS = {
    # the kernel takes no answer to ::1 from outside lo: there, whoever tries is refused at once and goes to 127.0.0.1
    "publish": """\
dnat ip to ip daddr . meta l4proto . th dport map @published_at4
dnat ip to meta l4proto . th dport map @published4
ip6 daddr ::1 return
dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at6
dnat ip6 to meta l4proto . th dport map @published6
""",
    # route_localnet is on for the bridges: keep containers away from the host's 127.0.0.1
    "loopback": """\
type filter hook prerouting priority raw; policy accept;
iifname @bridges ip daddr 127.0.0.0/8 drop
""",
    # from a neighbour nothing may come for 127.0.0.1: redirected, it would be past where the kernel drops it
    "prerouting": """\
type nat hook prerouting priority dstnat; policy accept;
iifname != "lo" ip daddr 127.0.0.0/8 return
fib daddr type local jump publish
""",
    "output": """\
type nat hook output priority -100; policy accept;
fib daddr type local jump publish
""",
    "postrouting": """\
type nat hook postrouting priority srcnat; policy accept;
oifname @bridges ct status dnat ip saddr 127.0.0.0/8 masquerade
ip saddr . oifname @home4 ct status dnat masquerade
ip6 saddr . oifname @home6 ct status dnat masquerade
ip saddr . oifname @home4 return
ip6 saddr . oifname @home6 return
snat ip to ip saddr map @leaving4
snat ip6 to ip6 saddr map @leaving6
ip saddr @masqueraded4 masquerade
ip6 saddr @masqueraded6 masquerade
""",
    # what is published is let through to the container itself where its network is routed, or the link is trusted
    "admit": """\
ip daddr . oifname @routed4 accept
ip6 daddr . oifname @routed6 accept
iifname . oifname @trusted accept
""",
    # an internal network: no way out, and none in; into another from elsewhere only what is published, and answers;
    # among those of one network, if it has not passed before, only links
    "forward": """\
type filter hook forward priority filter; policy accept;
jump operator
iifname . oifname @among accept
iifname @internal drop
oifname @internal drop
oifname != @bridges accept
ct state established,related accept
ct status dnat accept
ip saddr . ip daddr . meta l4proto . th dport @links accept
ip daddr . iifname @home4 drop
ip6 daddr . iifname @home6 drop
ip daddr . meta l4proto . th dport @admitted4 jump admit
ip6 daddr . meta l4proto . th dport @admitted6 jump admit
icmp type echo-request ip daddr . oifname @routed4 accept
icmpv6 type echo-request ip6 daddr . oifname @routed6 accept
iifname != @bridges ip daddr . oifname @open4 accept
iifname != @bridges ip6 daddr . oifname @open6 accept
drop
""",
}


@dataclass(frozen=True)
class Policy:
    """What a network allows. Without ``icc`` its bridge's ports are isolated, and the way by the host is shut too."""

    ip_masq: bool = True
    icc: bool = True
    internal: bool = False
    ip_masq6: bool = True
    leaves_as: tuple[str, str] = ("", "")  # the addresses of IPv4 and IPv6 that its packets leave with; empty: any
    modes: tuple[str, str] = ("nat", "nat")  # of IPv4 and IPv6: nat, nat-unprotected, routed, isolated
    trusted: tuple[str, ...] = ()  # links


@dataclass(frozen=True)
class Zone:
    """A bridge as the rules know it."""

    bridge: str
    subnets: tuple[Network, ...]
    policy: Policy


def zone_elements(zone: Zone) -> Elements:
    name, policy = f'"{zone.bridge}"', zone.policy
    found = [("bridges", name)]
    if policy.internal:
        found.append(("internal", name))
    if policy.icc:
        found.append(("among", f"{name} . {name}"))
    found += [("trusted", f'"{link}" . {name}') for link in policy.trusted]
    for subnet in zone.subnets:
        found.append((f"home{subnet.version}", f"{subnet} . {name}"))
        mode = policy.modes[subnet.version == 6]
        if not policy.internal and mode in REACHABLE:
            found.append((f"{REACHABLE[mode]}{subnet.version}", f"{subnet} . {name}"))
        masquerades = mode != "routed" and (policy.ip_masq if subnet.version == 4 else policy.ip_masq6)
        if not policy.internal and masquerades:
            address = policy.leaves_as[subnet.version == 6]
            as_one = (f"leaving{subnet.version}", f"{subnet} : {address}")
            found.append(as_one if address else (f"masqueraded{subnet.version}", str(subnet)))
    return found


def port_element(port: AllocatedPort, address: str) -> tuple[str, str]:
    """Return (map, element without its value); the value is `port_value`'s."""
    key = f"{port.protocol} . {port.host_port}"
    version = ip_address(address).version
    if port.host_ip in ANY:
        return f"published{version}", key
    return f"published_at{version}", f"{port.host_ip} . {key}"


def port_value(port: AllocatedPort, address: str) -> str:
    return f"{address} . {port.container_port}"


def admitted_element(port: AllocatedPort, address: str) -> tuple[str, str]:
    """Return (set, element) of what lets a port through to an address; other host ports may have the same."""
    return f"admitted{ip_address(address).version}", f"{address} . {port.protocol} . {port.container_port}"


def link_element(link: Link) -> str:
    parent, peer = link
    return f"{parent} . {peer.address} . {peer.protocol} . {peer.port}"


def render(
    table: str,
    zones: Iterable[Zone],
    published: Mapping[AllocatedPort, str],
    links: Iterable[Link],
    operator: str = "",
    admitted: Iterable[tuple[AllocatedPort, str]] = (),
) -> str:
    """Return the commands that bring the table to this content, in one transaction, and leave ``operator`` alone."""
    elements: dict[str, list[str]] = {name: [] for name in (*SETS, *MAPS)}
    for zone in zones:
        for name, element in zone_elements(zone):
            elements[name].append(element)
    for port, address in sorted(published.items(), key=lambda item: (item[0].host_ip, item[0].host_port)):
        name, key = port_element(port, address)
        elements[name].append(f"{key} : {port_value(port, address)}")
    for name, element in sorted({admitted_element(port, address) for port, address in admitted}):
        elements[name].append(element)
    elements["links"] = [link_element(link) for link in links]
    lines = [f"table inet {table} {{", f"\tchain operator {{\n{operator}\t}}"]
    lines += [f"\tset {name} {{ {kind}; }}" for name, kind in SETS.items()]
    lines += [f"\tmap {name} {{ {kind}; }}" for name, kind in MAPS.items()]
    lines += [f"\tchain {name} {{ {_hook(text)} }}" for name, text in CHAINS.items()]
    lines.append("}")
    lines += [f"flush chain inet {table} {name}" for name in CHAINS]
    lines += [f"flush {'map' if name in MAPS else 'set'} inet {table} {name}" for name in elements]
    lines.append(f"table inet {table} {{")
    for name, text in CHAINS.items():
        lines += [f"\tchain {name} {{", *(f"\t\t{rule}" for rule in text.splitlines() if not _is_hook(rule)), "\t}"]
    lines.append("}")
    for name, found in elements.items():
        if found:
            listed = "".join(f"\t{one},\n" for one in found)
            lines.append(f"add element inet {table} {name} {{\n{listed}}}")
    return "\n".join(lines) + "\n"


def _hook(text: str) -> str:
    first = text.partition("\n")[0]
    return first if _is_hook(first) else ""


def _is_hook(line: str) -> bool:
    return line.startswith("type ")
