"""Views: how the API shows a container (inspect and list)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from services.engine import links
from services.engine.container import Container
from services.engine.endpoints import dns_names
from services.engine.health import health_text
from services.engine.logdrivers import log_path
from services.engine.mounts import shown
from services.engine.networks import PREDEFINED
from services.engine.record import ContainerRecord, Status
from shared.protocol import (
    ContainerConfig,
    ContainerInspect,
    ContainerState,
    ContainerSummary,
    EndpointSettings,
    HostConfig,
    NetworkSettings,
    Port,
    SummaryHostConfig,
    SummaryNetworks,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["endpoint", "human_duration", "inspect", "rfc3339", "summary"]

NEVER = "0001-01-01T00:00:00Z"
MASKED_PATHS = [
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def rfc3339(nanoseconds: int) -> str:
    """Return a UTC time with nine digits of fraction, or the zero time."""
    if not nanoseconds:
        return NEVER
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def human_duration(seconds: float) -> str:
    """Return a duration in words, as docker/go-units' HumanDuration."""
    whole = int(seconds)
    minutes, hours = whole // 60, round(seconds / 3600)
    for below, text in (
        (whole < 1, "Less than a second"),
        (whole == 1, "1 second"),
        (whole < 60, f"{whole} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 7 * 2, f"{hours // 24} days"),
        (hours < 24 * 30 * 2, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    ):
        if below:
            return text
    return f"{hours // 24 // 365} years"


def status_text(record: ContainerRecord) -> str:
    now = time.time()
    if record.running:
        said = " (Paused)" if record.paused else health_text(record.health)
        return f"Up {human_duration(now - record.started / 1e9)}{said}"
    ago = f"({record.exit_code}) {human_duration(now - record.finished / 1e9)} ago"
    return {
        Status.CREATED: "Created",
        Status.EXITED: f"Exited {ago}",
        Status.RESTARTING: f"Restarting {ago}",
        Status.REMOVING: "Removal In Progress",
    }[record.status]


def state(record: ContainerRecord) -> ContainerState:
    return ContainerState(
        status=record.status,
        running=record.running or record.status is Status.RESTARTING,
        paused=record.paused,
        restarting=record.status is Status.RESTARTING,
        oom_killed=record.oom_killed,
        pid=record.pid,
        exit_code=record.exit_code,
        error=record.error,
        started_at=rfc3339(record.started),
        finished_at=rfc3339(record.finished),
        health=msgspec.UNSET if record.health is None else record.health,
    )


def endpoint(engine: Engine, record: ContainerRecord, name: str) -> EndpointSettings:
    """Return a container's place in the network ``name``: as asked, and while it runs as it is."""
    place = record.endpoints[name]
    asked, interface = place.asked, place.interface if record.running else None
    shown = EndpointSettings(
        ipam_config=asked.ipam_config,
        links=asked.links,
        aliases=asked.aliases,
        driver_opts=asked.driver_opts,
        gw_priority=asked.gw_priority,
        mac_address=asked.mac_address,
        network_id=place.network or engine.networks.id_of(name),
        dns_names=None if name in PREDEFINED else dns_names(record, place),
    )
    if interface is not None or (record.running and name in ("host", "none")):
        shown.endpoint_id = engine.networks.endpoint_id(record.id, record.generation, place.network)
    if interface is not None:
        shown.gateway, shown.ip_address = interface.gateway, interface.address
        shown.ip_prefix_len, shown.mac_address = interface.prefix_len, interface.mac_address
        shown.ipv6_gateway, shown.global_ipv6_address = interface.gateway6, interface.address6
        shown.global_ipv6_prefix_len = interface.prefix_len6
    return shown


def network_settings(engine: Engine, record: ContainerRecord) -> NetworkSettings:
    place = endpoint(engine, record, "bridge") if "bridge" in record.endpoints else EndpointSettings()
    interface = record.interface if record.running else None
    return NetworkSettings(
        sandbox_id=engine.networks.endpoint_id(record.id, -record.generation) if interface else "",
        sandbox_key=interface.netns if interface else "",
        ports=_published(record),
        endpoint_id=place.endpoint_id,
        gateway=place.gateway,
        ip_address=place.ip_address,
        ip_prefix_len=place.ip_prefix_len,
        mac_address=place.mac_address,
        ipv6_gateway=place.ipv6_gateway,
        global_ipv6_address=place.global_ipv6_address,
        global_ipv6_prefix_len=place.global_ipv6_prefix_len,
        networks=_networks(engine, record),
    )


def _networks(engine: Engine, record: ContainerRecord) -> dict[str, EndpointSettings]:
    """Return a container's networks; who joins another container's network has none of its own."""
    return {name: endpoint(engine, record, name) for name in record.endpoints}


def _published(record: ContainerRecord) -> dict[str, list[Any] | None]:
    """Return "80/tcp" → its bindings on the host, or None where it is only exposed: to the others on a bridge."""
    places = (place.interface for place in record.endpoints.values())
    if not record.running or not any(interface and interface.mode == "bridge" for interface in places):
        return {}
    published: dict[str, list[Any] | None] = dict.fromkeys(record.config.exposed_ports or {})
    for port in record.interface.ports if record.interface else []:
        key = f"{port.container_port}/{port.protocol}"
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        if not port.host_port:  # on no address of the host's; of which family is all that there is to tell
            binding = {"HostIp": "::" if ":" in port.host_ip else "0.0.0.0", "HostPort": ""}
        published[key] = [*(published.get(key) or []), binding]
    return published


def inspect(engine: Engine, container: Container) -> ContainerInspect:
    record = container.record
    directory = engine.config.root / "containers" / record.id
    host_config = _shown_host_config(engine, record)
    return ContainerInspect(
        id=record.id,
        created=rfc3339(record.created),
        path=record.args[0],
        args=record.args[1:],
        state=state(record),
        image=record.image,
        resolv_conf_path=str(directory / "resolv.conf"),
        hostname_path=str(directory / "hostname"),
        hosts_path=str(directory / "hosts"),
        log_path=_log_path(engine, record),
        name=f"/{record.name}",
        restart_count=record.restart_count,
        driver=engine.graph.status.get("Driver", ""),
        platform="linux",
        mount_label="",
        process_label="",
        app_armor_profile="",
        exec_ids=engine.execs.of(record.id) or None,
        host_config=host_config,
        graph_driver={"Name": engine.graph.status.get("Driver", ""), "Data": record.places},
        mounts=[shown(point) for point in record.mounts],
        config=_shown_config(record),
        network_settings=network_settings(engine, record),
    )


def _log_path(engine: Engine, record: ContainerRecord) -> str:
    """Return the path, of the driver whose files others may read, from the first start on."""
    named = record.host_config.log_config.type == "json-file" and record.generation
    return str(log_path(engine.config, record)) if named else ""


def _shown_host_config(engine: Engine, record: ContainerRecord) -> HostConfig:
    given = record.host_config
    return msgspec.structs.replace(
        given,
        masked_paths=MASKED_PATHS if given.masked_paths is None else given.masked_paths,
        readonly_paths=READONLY_PATHS if given.readonly_paths is None else given.readonly_paths,
        links=links.shown(engine, record),
    )


def _shown_config(record: ContainerRecord) -> ContainerConfig:
    return msgspec.structs.replace(record.config, image=record.requested_image)


def summary(engine: Engine, container: Container, further_names: list[str]) -> ContainerSummary:
    record = container.record
    return ContainerSummary(
        id=record.id,
        names=[f"/{record.name}", *further_names],
        image=record.requested_image if engine.images.is_meant(record.image, record.requested_image) else record.image,
        image_id=record.image,
        command=" ".join([record.args[0], *(f"'{arg}'" if " " in arg else arg for arg in record.args[1:])]),
        created=record.created // 1_000_000_000,
        ports=ports(record),
        labels=record.config.labels or {},
        state=record.status,
        status=status_text(record),
        host_config=SummaryHostConfig(
            network_mode=record.host_config.network_mode, annotations=record.host_config.annotations or None
        ),
        network_settings=SummaryNetworks(networks=_networks(engine, record)),
        mounts=[shown(point) for point in record.mounts],
    )


def ports(record: ContainerRecord) -> list[Port]:
    shown = []
    for key, bindings in _published(record).items():
        private, _, protocol = key.partition("/")
        number, kind = int(private), protocol or "tcp"
        if not bindings:
            shown.append(Port(private_port=number, type=kind))
        for binding in bindings or []:
            public = int(binding["HostPort"] or 0) or None
            shown.append(Port(ip=binding["HostIp"], private_port=number, public_port=public, type=kind))
    return shown
