"""Tables: which of the host's nftables tables were ours, and what of them is kept when one is replaced."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from services.netdriver.nft import Nft, NftError

__all__ = ["OPERATOR", "Tables"]

OPERATOR = "operator"
log = logging.getLogger("dockyard.netdriver")


class Tables:
    """``mine``: our table's name; ``record``: a file that has the name of the one made last, None: it is not known."""

    def __init__(self, nft: Nft, mine: str, record: Path | None) -> None:
        self._nft, self._mine, self._record = nft, mine, record

    def names(self, family: str) -> list[str]:
        """List the tables that there are, which no kernel refuses. Raises NftError."""
        listed = [line.split() for line in self._nft.run("list tables").splitlines()]
        return [name for _, one, name in listed if one == family]

    def ours(self) -> list[str]:
        """List those that are ours now, or were when there was another bridge. Raises NftError."""
        return [name for name in self.names("inet") if name in (self._mine, self._recorded())]

    def earlier(self, bridges: Iterable[str]) -> tuple[str, str]:
        """Return what removes the table of another name, and those of releases that had one for each bridge; and the
        operator's rules in the former. Raises NftError.
        """
        mine = {f"dockyard_{bridge}" for bridge in bridges} | {self._mine}
        earlier = "".join(f"delete table ip {name}\n" for name in self.names("ip") if name in mine)
        was = self._recorded()
        if was == self._mine or was not in self.names("inet"):
            return earlier, ""
        log.info("firewall table has another name now was=%s table=%s", was, self._mine)
        return f"{earlier}delete table inet {was}\n", self.operators_rules(was)

    def operators_rules(self, table: str) -> str:
        """Return the rules that the operator has in a table of ours, a line each."""
        with suppress(NftError):
            lines = self._nft.run(f"list chain inet {table} {OPERATOR}").splitlines()
            return "".join(f"{line}\n" for line in lines[2:-2])
        return ""

    def note(self) -> None:
        """Write down that ours is made. Raises OSError."""
        if self._record is not None and self._recorded() != self._mine:
            self._record.write_text(self._mine)

    def _recorded(self) -> str:
        with suppress(OSError):
            return self._record.read_text() if self._record is not None else ""
        return ""
