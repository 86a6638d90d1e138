"""What `info` says of registries (moby API v1.51 RegistryServiceConfig)."""

from __future__ import annotations

from typing import Any

from shared.runtime.config import Config

__all__ = ["registry_config"]

ALWAYS_INSECURE = "127.0.0.0/8"
DOCKER_HUB = "docker.io"


def registry_config(config: Config) -> dict[str, Any]:
    mirrors = [f"{mirror.rstrip('/')}/" for mirror in config.registry_mirrors]
    networks = [entry for entry in config.insecure_registries if "/" in entry]
    indexes = {DOCKER_HUB: _index(DOCKER_HUB, mirrors, is_secure=True)}
    for name in config.insecure_registries:
        if name not in networks:
            indexes[name] = _index(name, [], is_secure=False)
    return {
        "IndexConfigs": indexes,
        "InsecureRegistryCIDRs": [*networks, ALWAYS_INSECURE],
        "Mirrors": mirrors,
    }


def _index(name: str, mirrors: list[str], *, is_secure: bool) -> dict[str, Any]:
    return {"Name": name, "Mirrors": mirrors, "Secure": is_secure, "Official": name == DOCKER_HUB}
