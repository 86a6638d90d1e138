"""Config: every setting of dockyard. `shared.runtime.loading` says where they come from.

The names are those of the 2014 daemon's flags, and of today's dockerd where it has more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.runtime import values
from shared.runtime.hosts import is_metrics_address, parse_host
from shared.runtime.settings import setting, settings_of

__all__ = ["NAMES", "PREFIX", "RUNTIMES", "SETTINGS", "Config", "ConfigError", "label_warnings"]

PREFIX = "DOCKYARD_"
RUNTIMES = ("crun", "runc")  # the OCI runtimes whose words are known
TLS = Path("/etc/dockyard/tls")


class ConfigError(Exception):
    """The configuration is wrong; the message names the key. Processes exit with 78 (EX_CONFIG)."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Times in seconds. A comma separates the items of a list."""

    root: Path = setting(
        Path("/var/lib/dockyard"),
        "what must survive a reboot: records, images, logs",
        section="The stack",
        also=("graph",),
        letter="g",
    )
    run: Path = setting(Path("/run/dockyard"), "what must not: sockets, leases, what runs", check=values.is_run)
    pidfile: Path | None = setting(
        None,
        "the stack's pid, for others to read; empty: RUN/dockyard.pid. What keeps a second stack away is ROOT's lock",
        letter="p",
    )
    tmpdir: Path | None = setting(None, "TMPDIR of all processes; empty: ROOT/tmp, which is cleared at each start")
    debug: bool = setting(False, "log more", letter="D")
    restart: bool = setting(
        True,
        "honour restart policies at the start; what runs is never stopped by one (live-restore is always on)",
        letter="r",
    )
    cgroup_driver: str = setting(
        "",
        "systemd: each container in a scope of its own; cgroupfs: in a cgroup of its own; empty: systemd where it runs",
        check=values.is_cgroup_driver,
    )
    cgroup_parent: str = setting(
        "", "the slice or cgroup above all containers; empty: dockyard.slice with systemd, else /dockyard"
    )
    shutdown_timeout: float = setting(5.0, "seconds that jobs under way are given at a stop", check=values.is_amount)
    job_retention: float = setting(
        7 * 24 * 3600.0, "seconds that the job journal remembers, 500,000 jobs at most", check=values.is_amount
    )
    event_retention: float = setting(
        7 * 24 * 3600.0,
        "seconds that the event journal remembers, but for those of execs; the newest 100,000 in any case",
        check=values.is_amount,
    )
    nowarn_kernel_version: bool = setting(False, "say nothing of an old kernel")

    hosts: tuple[str, ...] = setting(
        (),
        "where the API listens: unix:///PATH, [tcp://]ADDRESS:PORT, fd://[NAME]; empty: unix://RUN/docker.sock, or "
        "what systemd hands over. "
        "What may be done there: ADDRESS?policy=read-only, ADDRESS?allow=GET:/containers/json&allow=…",
        section="The API",
        also=("host",),
        letter="H",
        check=parse_host,
    )
    group: str = setting(
        "docker", 'group of the API\'s unix socket; "": root alone. Only "docker" need not exist', letter="G"
    )
    tls: bool = setting(False, "speak TLS on tcp://; unix:// stays plain")
    tlsverify: bool = setting(False, "the same, and demand a client certificate that tlscacert vouches for")
    tlscacert: Path = setting(TLS / "ca.pem", "who vouches for clients")
    tlscert: Path = setting(TLS / "cert.pem", "the API's certificate, with what leads to its CA")
    tlskey: Path = setting(TLS / "key.pem", "its private key")
    insecure_tcp: bool = setting(
        False, "allow tcp:// beyond loopback without tlsverify: whoever reaches the port is root on this host"
    )
    cors: tuple[str, ...] = setting(
        (), "origins whose pages may use the API, as https://example.com; *: any", check=values.is_origin
    )
    api_enable_cors: bool = setting(False, 'as cors = ["*"]')

    metrics_addr: str = setting(
        "",
        "where /metrics is told to Prometheus: [tcp://]ADDRESS:PORT or unix:///PATH; empty: nowhere",
        check=is_metrics_address,
    )
    access_log: bool = setting(False, "log each request to the API, with the job that it called")
    otlp_endpoint: str = setting(
        "",
        "where jobs go as OpenTelemetry spans, as http://127.0.0.1:4318/v1/traces (the extra otel); empty: nowhere",
        check=values.is_endpoint,
    )
    stream_grace: float = setting(
        30.0,
        "seconds that streams (events, logs -f, attach …) may go on of an API worker that is replaced or scaled away",
        check=values.is_amount,
    )

    storage_driver: str = setting(
        "",
        "overlay or vfs; empty: overlay where the kernel can, else vfs",
        section="Drivers",
        letter="s",
        check=values.is_storage_driver,
    )
    storage_opt: tuple[str, ...] = setting(
        (),
        "options of the storage driver; there is overlay.index=on|off (on: hard links survive a change of their file)",
        check=values.is_storage_option,
    )
    exec_driver: str = setting("crun", "the OCI runtime: crun or runc, or the path of one", letter="e")
    selinux_enabled: bool = setting(False, "accepted: containers get no SELinux labels, and `info` warns")
    context: tuple[str, ...] = setting(
        (), "SELinux label options of all containers, as type:container_t; accepted likewise", check=values.is_label
    )

    log_driver: str = setting(
        "json-file",
        "where output is kept that no other driver was asked for: json-file, local, journald or none",
        section="Logs",
        check=values.is_log_driver,
    )
    log_opts: tuple[str, ...] = setting(
        (),
        "its options, as max-size=20m, max-file=5, compress=true, labels=NAME,NAME",
        also=("log_opt",),
    )

    bridge: str = setting(
        "dockyard0",
        "the default bridge, made if it is not there; none: none, and containers have a network only if one is named",
        section="Network",
        letter="b",
        check=values.is_link,
    )
    bip: str = setting(
        "", "its address, as 172.30.0.1/16; empty: one whose network overlaps no route", check=values.is_bridge_address
    )
    fixed_cidr: str = setting(
        "",
        "the part of the bridge's network that containers get addresses from; empty: all of it",
        check=values.is_network,
    )
    ipv6: bool = setting(False, "give the default bridge and its containers IPv6 addresses too")
    bip6: str = setting(
        "",
        "its IPv6 address, as fd00:30::1/64; empty: in fixed_cidr_v6, else a unique local one",
        check=values.is_ipv6_bridge_address,
    )
    fixed_cidr_v6: str = setting(
        "", "the part of its IPv6 network that containers get addresses from; empty: all", check=values.is_ipv6_network
    )
    default_address_pools: tuple[str, ...] = setting(
        ("172.20.0.0/14/24", "172.24.0.0/14/24", "10.160.0.0/12/24"),
        "networks, each with the prefix length of the subnets that user-defined networks get of it; none of IPv6: "
        "unique local /64s",
        also=("default_address_pool",),
        check=values.is_pool,
    )
    icc: bool = setting(True, "containers on the default bridge may talk to each other")
    ip: str = setting("0.0.0.0", "address that published ports bind to by default", check=values.is_ipv4)
    ip_forward: bool = setting(True, "turn on net.ipv4.ip_forward")
    ip_masq: bool = setting(True, "masquerade what leaves the bridge's network; off without firewall")
    firewall: bool = setting(
        True, "have nftables rules of our own; without them no port is published", also=("iptables",)
    )
    mtu: int = setting(
        0, "of the bridge and its containers, in bytes; 0: that of the default route, else 1500", check=values.is_mtu
    )
    dns: tuple[str, ...] = setting((), "name servers of containers; empty: the host's", check=values.is_address)
    dns_search: tuple[str, ...] = setting(
        (), "domains that containers search; empty: the host's; .: none", check=values.is_domain
    )

    registry_mirrors: tuple[str, ...] = setting(
        (),
        "where to ask for Docker Hub's images first, as https://host[:port]",
        section="Registries",
        also=("registry_mirror",),
        check=values.is_mirror,
    )
    insecure_registries: tuple[str, ...] = setting(
        (),
        "host[:port] or network of registries without a proper certificate; 127.0.0.0/8 always is",
        also=("insecure_registry",),
        check=values.is_registry,
    )
    certs_dir: Path = setting(
        Path("/etc/dockyard/certs.d"),
        "HOST[:PORT]/ in it: *.crt are CAs of that registry, *.cert with *.key what we show it",
    )
    max_concurrent_downloads: int = setting(3, "blobs that one pull fetches at a time; 0: all", check=values.is_count)
    max_concurrent_uploads: int = setting(5, "blobs that one push sends at a time; 0: all", check=values.is_count)
    max_download_attempts: int = setting(
        5, "how often a blob's transfer is begun or resumed without a byte of progress", check=values.is_count
    )
    search_index: str = setting(
        "https://index.docker.io", "where `search` asks, with the v1 search API", check=values.is_mirror
    )

    # set by the launcher for the apiserver: descriptors of its listeners; and which of `api_hosts` each is, -1: none
    listen_fds: tuple[int, ...] = ()
    listen_hosts: tuple[int, ...] = ()

    @property
    def api_hosts(self) -> tuple[str, ...]:
        return self.hosts or (f"unix://{self.run}/docker.sock",)

    @property
    def runtime(self) -> str:
        """Name the OCI runtime."""
        return Path(self.exec_driver).name

    @property
    def temporary(self) -> Path:
        return self.tmpdir or self.root / "tmp"

    @property
    def pid_path(self) -> Path:
        return self.pidfile or self.run / "dockyard.pid"

    @property
    def origins(self) -> tuple[str, ...]:
        return ("*",) if self.api_enable_cors else self.cors

    @property
    def serves_tls(self) -> bool:
        return self.tls or self.tlsverify


SETTINGS = {one.name: one for one in settings_of(Config)}
NAMES = {name: one.name for one in SETTINGS.values() for name in (one.name, *one.also)}


def label_warnings(config: Config) -> list[str]:
    """Return a line for each setting of labels that was accepted and has no effect."""
    return [
        f"{name}: containers get no SELinux labels"
        for name, given in (("selinux-enabled", config.selinux_enabled), ("context", config.context))
        if given
    ]
