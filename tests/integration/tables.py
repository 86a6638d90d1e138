"""Rows of the tables that say of each field of the API what it does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tests.integration.api import request, run

__all__ = ["Inside", "Refused"]


@dataclass(frozen=True)
class Inside:
    """``script``, run in a container with ``value`` (and ``more``), prints something that ``prints`` matches."""

    value: Any
    script: str
    prints: str
    more: dict[str, Any] | None = None

    def check(self, stack: Any, name: str, *, in_host_config: bool) -> None:
        fields = {name: self.value, **(self.more or {})}
        printed = run(stack, self.script, fields) if in_host_config else run(stack, self.script, {}, **fields)
        assert re.search(self.prints, printed, re.MULTILINE), printed


@dataclass(frozen=True)
class Refused:
    """Create answers ``status`` and a message that names the field, or says what Docker says."""

    value: Any
    status: int
    text: str

    def check(self, stack: Any, name: str) -> None:
        body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {name: self.value}}
        status, answer = request(stack, "POST", "/containers/create", body)
        assert (status, self.text in answer["message"]) == (self.status, True), answer
