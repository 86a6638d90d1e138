"""Links of the default bridge: one container (the parent) sees another (the child) under an alias.

A record has them as ``CHILD_ID:ALIAS``, so that a child may be renamed. The parent gets the child's address in its
hosts file and, as in 2014, variables that tell of the child's ports and environment. Where containers may not talk to
each other (``icc = false``) the parent may reach the ports that the child exposes, from when both run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.patterns import is_word
from services.engine.record import ContainerRecord
from shared.protocol import (
    Conflict,
    DockyardError,
    Interface,
    InvalidArgument,
    LinkContainers,
    NotFound,
    RemoveContainer,
    RuntimeSetHost,
    joined_container,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["allow", "environment", "hosts", "names", "resolve_links", "shown", "tell_parents", "unlink"]

NOT_PASSED_ON = ("HOME", "PATH")
log = logging.getLogger("dockyard.engine")


def resolve_links(engine: Engine, links: list[str]) -> list[str]:
    """Turn ``NAME[:ALIAS]`` into what a record has. Errors: InvalidArgument."""
    return [_resolve(engine, link) for link in links]


def _resolve(engine: Engine, link: str) -> str:
    name, _, alias = link.partition(":")
    alias = (alias or name).rpartition("/")[2]  # of /child:/parent/alias, as inspect shows it, too
    if not name or not is_word(alias) or not alias or ":" in alias:
        raise InvalidArgument(f"bad format for links: {link}")
    ref = name
    try:
        child = engine.containers.find(ref)
        while ref := joined_container(child.record.host_config.network_mode):
            child = engine.containers.find(ref)
    except NotFound as error:
        raise InvalidArgument(f"could not get container for {ref}: {error.message}") from None
    if child.record.host_config.network_mode == "host":
        raise InvalidArgument(
            "conflicting options: host type networking can't be used with links. This would result in undefined "
            "behavior"
        )
    return f"{child.id}:{alias}"


def _children(engine: Engine, record: ContainerRecord) -> Iterator[tuple[str, Container]]:
    """Yield (alias, child); a child that was removed is linked no more."""
    for link in record.host_config.links or []:
        child_id, _, alias = link.partition(":")
        child = engine.containers.by_id(child_id)
        if child is not None:
            yield alias, child


def _parents(engine: Engine, child: ContainerRecord) -> Iterator[tuple[str, Container]]:
    for container in engine.containers:
        for link in container.record.host_config.links or []:
            child_id, _, alias = link.partition(":")
            if child_id == child.id:
                yield alias, container


def shown(engine: Engine, record: ContainerRecord) -> list[str] | None:
    """Return HostConfig.Links as `inspect` has them: ``/child:/parent/alias``."""
    links = [f"/{child.record.name}:/{record.name}/{alias}" for alias, child in _children(engine, record)]
    return links or None


def names(engine: Engine) -> dict[str, list[str]]:
    """Return the further names of the containers that have some, by id: ``/parent/alias``."""
    found: dict[str, list[str]] = {}
    for parent in engine.containers:
        for link in parent.record.host_config.links or []:
            child_id, _, alias = link.partition(":")
            found.setdefault(child_id, []).append(f"/{parent.record.name}/{alias}")
    return {child_id: sorted(those) for child_id, those in found.items()}


def hosts(engine: Engine, record: ContainerRecord) -> list[str]:
    """Return the children as HostConfig.ExtraHosts (``NAMES:ADDRESS``). Errors: Conflict (one does not run)."""
    entries = []
    for alias, child in _children(engine, record):
        address = _address(child, f"/{record.name}/{alias}")
        others = [child.record.config.hostname, child.record.name]
        entries.append(" ".join(dict.fromkeys([alias, *others])) + f":{address}")
    return entries


def _address(child: Container, link: str) -> str:
    if not child.record.running or child.record.interface is None:
        raise Conflict(f"Cannot link to a non running container: /{child.record.name} AS {link}")
    interface = _interface(child.record)
    if interface is None:
        raise Conflict(f"Cannot link to /{child.record.name}, as it does not belong to the default network")
    return interface.address


def _interface(record: ContainerRecord) -> Interface | None:
    """Return the interface that a container has in the default network: links lead there, and nowhere else."""
    found = (place.interface for place in record.endpoints.values() if not place.network)
    return next((interface for interface in found if interface and interface.address), None)


def environment(engine: Engine, record: ContainerRecord, *, all_run: bool = True) -> list[str]:
    """Return the variables that tell of the children (2014: ALIAS_PORT_80_TCP_ADDR …). Errors as `hosts`.

    Without ``all_run`` nothing is told of those that do not run, and that is no error.
    """
    variables: list[str] = []
    for alias, child in _children(engine, record):
        if not all_run and not (child.record.running and _interface(child.record)):
            continue
        link = f"/{record.name}/{alias}"
        prefix = alias.upper().replace("-", "_")
        variables.append(f"{prefix}_NAME={link}")
        variables += _ports(prefix, _address(child, link), child.record)
        for name, _, value in (entry.partition("=") for entry in child.record.config.env or []):
            if name not in NOT_PASSED_ON:
                variables.append(f"{prefix}_ENV_{name}={value}")
    return variables


def _exposed(child: ContainerRecord) -> list[str]:
    """Return the ports that a container exposes, as ``80/tcp``."""
    ports = child.config.exposed_ports or {}
    return [port if "/" in port else f"{port}/tcp" for port in ports]


async def allow(engine: Engine, parent: ContainerRecord) -> None:
    """Let a container that is about to run reach its children. What cannot be is logged: it runs all the same."""
    for _, child in _children(engine, parent):
        await _link(engine, parent, child.record, "-I")


async def _link(engine: Engine, parent: ContainerRecord, child: ContainerRecord, action: str) -> None:
    mine, its = _interface(parent), _interface(child) if child.running else None
    if engine.config.icc or mine is None or its is None:
        return
    parent_ip, child_ip = mine.address, its.address
    job = LinkContainers(
        action=action, parent_ip=parent_ip, child_ip=child_ip, ports=_exposed(child), ignore_errors=True
    )
    try:
        await engine.call(job)
    except DockyardError as error:
        log.warning("link not allowed parent=%s child=%s error=%s", parent.id, child.id, error)


def _ports(prefix: str, address: str, child: ContainerRecord) -> Iterator[str]:
    exposed = [(protocol, int(number)) for number, _, protocol in (port.partition("/") for port in _exposed(child))]
    for index, (protocol, number) in enumerate(sorted(exposed, key=lambda port: (port[0] != "tcp", port))):
        url, name = f"{protocol}://{address}:{number}", f"{prefix}_PORT_{number}_{protocol.upper()}"
        if index == 0:
            yield f"{prefix}_PORT={url}"
        yield from (f"{name}={url}", f"{name}_ADDR={address}", f"{name}_PORT={number}", f"{name}_PROTO={protocol}")


async def tell_parents(engine: Engine, child: Container) -> None:
    """Tell the containers that run and are linked to a child its address; it may be another than before."""
    interface = _interface(child.record)
    if interface is None:
        return
    for alias, parent in list(_parents(engine, child.record)):
        if parent.record.running:
            directory = str(engine.config.root / "containers" / parent.id)
            try:
                await engine.call(RuntimeSetHost(directory=directory, name=alias, address=interface.address))
            except DockyardError as error:
                log.warning("link not updated parent=%s child=%s error=%s", parent.id, child.id, error)
            await _link(engine, parent.record, child.record, "-I")


async def unlink(engine: Engine, ref: str) -> None:
    """Remove a link, given as ``parent/alias``. Errors: Conflict (a container), NotFound."""
    name = ref.strip("/")
    parent_name, _, alias = name.rpartition("/")
    if not parent_name:
        engine.containers.find(name)
        raise Conflict("Conflict, cannot remove the default link name of the container")
    try:
        parent = engine.containers.find(parent_name)
    except NotFound:
        raise NotFound(f"No such container: {name}") from None
    links = parent.record.host_config.links or []
    kept = [link for link in links if link.partition(":")[2] != alias]
    if kept == links:
        raise NotFound(f"No such container: {name}")
    parent.record.host_config.links = kept
    with engine.store.transaction():
        engine.save(parent)
        engine.done(RemoveContainer, None)
    for link in set(links) - set(kept):
        child = engine.containers.by_id(link.partition(":")[0])
        if child is not None and child.id not in {other.partition(":")[0] for other in kept}:
            await _link(engine, parent.record, child.record, "-D")
