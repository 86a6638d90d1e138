"""Denials: what a firewall of the host's says against what was published. Nobody's rules are changed; users are told.

A base chain denies what it does not accept if its policy is drop, or if it ends with a plain drop or reject. Of what it
accepts only this is understood: ports by number, what was redirected (``ct status dnat``), and our bridges by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from services.netdriver.nft import Nft
from shared.protocol import AllocatedPort

__all__ = ["denials"]

VERSIONS = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}
PLAIN = {"counter", "log", "drop", "reject", "comment"}  # statements of a rule that matches everything
MOST_NAMED = 10


@dataclass(frozen=True)
class BaseChain:
    family: str
    table: str
    name: str
    hook: str
    policy: str

    @property
    def text(self) -> str:
        return f"chain {self.name} of table {self.family} {self.table}"


def denials(nft: Nft, own_table: str, ports: Iterable[AllocatedPort], bridges: Sequence[str]) -> list[str]:
    """Return a sentence for each base chain that denies published ports. Raises NftError."""
    open_ports = [port for port in ports if not (port.host_port and ip_address(port.host_ip).is_loopback)]
    if not open_ports:
        return []
    found = []
    for chain in _base_chains(nft.read("list chains")):
        if chain.hook not in ("forward", "input") or chain.table == own_table or chain.family not in VERSIONS:
            continue
        rules = [one["rule"] for one in nft.read(f"list table {chain.family} {chain.table}") if "rule" in one]
        if not _denies(chain, rules):
            continue
        versions = VERSIONS[chain.family]
        mine = [port for port in open_ports if (6 if ":" in port.host_ip else 4) in versions]
        if chain.hook == "forward" and mine and not any(_accepts_redirected(rule, bridges) for rule in rules):
            found.append(f"{chain.text} denies forwarded packets: published ports cannot be reached from outside")
        if chain.hook == "input":
            accepted = [numbers for rule in rules for numbers in _accepted_ports(rule)]
            redirected = [port for port in mine if port.host_port]
            denied = [port for port in redirected if not any(port.host_port in numbers for numbers in accepted)]
            if denied:
                found.append(f"{_named(denied)} published although {chain.text} denies it: it is not asked")
    return found


def _named(ports: Sequence[AllocatedPort]) -> str:
    names = list(dict.fromkeys(f"{port.host_port}/{port.protocol}" for port in ports))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    many = len(names) > 1
    return f"port{'s' if many else ''} {', '.join(names[:MOST_NAMED])}{more} {'are' if many else 'is'}"


def _base_chains(listing: Iterable[dict[str, Any]]) -> Iterator[BaseChain]:
    for one in listing:
        chain = one.get("chain", {})
        if "hook" in chain:
            yield BaseChain(
                chain["family"], chain["table"], chain["name"], chain["hook"], chain.get("policy", "accept")
            )


def _denies(chain: BaseChain, rules: Sequence[dict[str, Any]]) -> bool:
    if chain.policy == "drop":
        return True
    own = [rule for rule in rules if rule["chain"] == chain.name]
    last = own[-1]["expr"] if own else []
    kinds = {kind for statement in last for kind in statement}
    return bool(kinds & {"drop", "reject"}) and kinds <= PLAIN


def _accepts(rule: dict[str, Any]) -> bool:
    return any("accept" in statement for statement in rule.get("expr", []))


def _matches(rule: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for statement in rule.get("expr", []):
        if "match" in statement:
            yield statement["match"]


def _accepts_redirected(rule: dict[str, Any], bridges: Sequence[str]) -> bool:
    if not _accepts(rule):
        return False
    found = list(_matches(rule))
    for match in found:
        left, right = match["left"], json.dumps(match["right"])
        if isinstance(left, dict) and left.get("ct", {}).get("key") == "status" and "dnat" in right:
            return True
        is_link = isinstance(left, dict) and left.get("meta", {}).get("key") in ("oif", "oifname")
        if is_link and any(f'"{bridge}"' in right for bridge in bridges):
            return True
    return not found  # accepts everything


def _accepted_ports(rule: dict[str, Any]) -> Iterator[range]:
    """Yield what a rule accepts by number; everything, if it asks for nothing."""
    if not _accepts(rule):
        return
    matches = list(_matches(rule))
    if not matches:
        yield range(65536)
    for match in matches:
        left = match["left"]
        if isinstance(left, dict) and left.get("payload", {}).get("field") == "dport" and match["op"] in ("==", "in"):
            yield from _ranges(match["right"])


def _ranges(right: Any) -> Iterator[range]:
    if isinstance(right, int):
        yield range(right, right + 1)
    elif isinstance(right, dict) and "range" in right:
        first, last = right["range"]
        yield range(first, last + 1)
    elif isinstance(right, dict) and "set" in right:
        for one in right["set"]:
            yield from _ranges(one)
