"""Arguments: which build arguments are in force, and where (Dockerfile reference, §ARG).

| scope                  | has                                                                                   |
|------------------------|---------------------------------------------------------------------------------------|
| before the first FROM  | ARG, replaced by what the user gave; for FROM lines                                    |
| a stage                | its own ARGs from there on: the user's value, else the default, else that before FROM |
| every RUN              | the proxy variables that the user gave, declared or not                                |
"""

from __future__ import annotations

from shared.protocol import InvalidArgument
from shared.runtime.platforms import host_platform, parse_platform

__all__ = ["Arguments", "StageArguments", "platform_arguments"]

PREDEFINED = frozenset(
    variant
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for variant in (name, name.lower())
)


def platform_arguments(wanted: str = "") -> dict[str, str]:
    """Return what BuildKit predefines of platforms: this machine's, and the one that is built for."""
    found: dict[str, str] = {}
    host = host_platform()
    for side, platform in (("BUILD", host), ("TARGET", parse_platform(wanted) if wanted else host)):
        variant = platform.written_variant
        whole = "/".join(filter(None, [platform.os, platform.architecture, variant]))
        facts = {"PLATFORM": whole, "OS": platform.os, "ARCH": platform.architecture, "VARIANT": variant}
        found |= {f"{side}{name}": value for name, value in facts.items()}
    return found


class Arguments:
    """``given``: by the user; None is the value that the ARG has by itself."""

    def __init__(self, given: dict[str, str | None], platform: dict[str, str]) -> None:
        self._given, self._platform = given, platform
        self._consumed: set[str] = set()
        self.globals: dict[str, str] = {}

    @property
    def for_from(self) -> dict[str, str]:
        """What FROM lines, and the ARGs before them, may name."""
        return {**self._platform, **self.globals}

    def declare_global(self, name: str, default: str | None) -> None:
        value = self.value(name, default)
        if value is not None:
            self.globals[name] = value

    def value(self, name: str, default: str | None) -> str | None:
        """Return what an ARG means, and note that it was asked for."""
        self._consumed.add(name)
        given = self._given.get(name)
        return given if given is not None else default

    def inherited(self, name: str) -> str | None:
        return self.globals.get(name, self._platform.get(name))

    def predefined(self) -> dict[str, str]:
        return {name: value for name, value in self._given.items() if name in PREDEFINED and value is not None}

    def unconsumed(self) -> list[str]:
        return sorted(name for name in self._given if name not in self._consumed and name not in PREDEFINED)


class StageArguments:
    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self.declared: dict[str, str] = {}

    def declare(self, name: str, default: str | None) -> None:
        if not name:
            raise InvalidArgument("ARG names can not be blank")
        value = self._arguments.value(name, default)
        value = self._arguments.inherited(name) if value is None else value
        if value is not None:
            self.declared[name] = value

    def of_run(self, environment: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Return (what a RUN's process has, what of that its image tells of): ENV wins, proxies stay untold."""
        told = {name: value for name, value in self.declared.items() if name not in environment}
        hidden = {
            name: value for name, value in self._arguments.predefined().items()
            if name not in environment and name not in told
        }  # fmt: skip
        return {**hidden, **told}, told
