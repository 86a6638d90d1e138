"""hosts, hostname and resolv.conf: the files that are bound over the image's (wire-details §14)."""

from __future__ import annotations

import hashlib
import ipaddress
from pathlib import Path

from shared.protocol import HostConfig, InvalidArgument, RuntimeSetAddresses, RuntimeStart, joined_container

__all__ = ["set_address", "set_own_addresses", "set_resolver", "write_files"]

NAMES = ("hostname", "hosts", "resolv.conf")

MAX_HOSTS = 1 << 20  # bytes of a file that is changed

LOCAL_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def write_files(job: RuntimeStart, dns: tuple[str, ...], dns_search: tuple[str, ...]) -> None:
    """Write the three files. A resolv.conf that the container's user has changed would be theirs: it is kept.

    Who joins another container's network has that one's files: the same inodes, so that they stay the same.
    """
    directory = Path(job.directory)
    directory.mkdir(mode=0o710, parents=True, exist_ok=True)
    if donor := joined_container(job.host_config.network_mode):
        for name in NAMES:
            _share(directory.with_name(donor) / name, directory / name)
        return
    host_mode = job.interface.mode == "host"
    hostname = job.config.hostname or (Path("/proc/sys/kernel/hostname").read_text().strip() if host_mode else "")
    _write(directory / "hostname", f"{hostname}\n")
    _write(directory / "hosts", _hosts(job, hostname))
    resolver = job.interface.resolver
    _write_resolv_conf(directory, _resolv_conf(job.host_config, job.interface.mode, resolver, dns, dns_search))


def set_resolver(
    directory: Path, resolver: str, host_config: HostConfig, dns: tuple[str, ...], dns_search: tuple[str, ...]
) -> None:
    """Carry out `RuntimeSetResolver`."""
    _write_resolv_conf(directory, _resolv_conf(host_config, "bridge", resolver, dns, dns_search))


def _write_resolv_conf(directory: Path, text: str) -> None:
    """Write it, unless what is there is not what we wrote last: then it is the user's."""
    path, mark = directory / "resolv.conf", directory / "resolv.conf.hash"
    if path.exists() and (not mark.exists() or mark.read_text() != _digest(path.read_text())):
        return
    _write(path, text)
    _write(mark, _digest(text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, text: str) -> None:
    """Write into the file that is there, so that whoever has bound it sees the change."""
    path.write_text(text, errors="surrogateescape")
    path.chmod(0o644)


def _share(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}")
    temporary.unlink(missing_ok=True)
    temporary.hardlink_to(source)
    temporary.replace(target)


def set_address(directory: Path, name: str, address: str) -> None:
    """Give ``address`` to the lines of a container's hosts that name ``name``. Idempotent; no file, no error."""
    lines = _read_hosts(directory)
    for number, line in enumerate(lines):
        names = line.split()[1:]
        if name in names:
            lines[number] = f"{address}\t{' '.join(names)}"
    if lines:
        _write_hosts(directory, lines)


def set_own_addresses(job: RuntimeSetAddresses) -> None:
    """Carry out `RuntimeSetAddresses`; no file, no error."""
    directory = Path(job.directory)
    lines = _read_hosts(directory)
    names = _own_names(job.hostname, job.domainname)
    gone = {f"{address}\t{names}" for address in job.gone}
    wanted = [f"{address}\t{names}" for address in job.addresses]
    changed = [line for line in lines if line not in gone or line in wanted]
    changed += [line for line in wanted if line not in lines]
    if lines and changed != lines:
        _write_hosts(directory, changed)


def _read_hosts(directory: Path) -> list[str]:
    """Return the lines; none of a file that is not there, or too large: the container can write it."""
    path = directory / "hosts"
    if not path.exists() or path.stat().st_size > MAX_HOSTS:
        return []
    return path.read_text(errors="surrogateescape").removesuffix("\n").split("\n")


def _write_hosts(directory: Path, lines: list[str]) -> None:
    _write(directory / "hosts", "\n".join(lines) + "\n")


def _own_names(hostname: str, domainname: str) -> str:
    return f"{hostname}.{domainname} {hostname}" if domainname else hostname


def _hosts(job: RuntimeStart, hostname: str) -> str:
    extra = [
        _extra_host(entry, job.interface.gateway or job.interface.gateway6)
        for entry in job.host_config.extra_hosts or []
    ]
    if job.interface.mode == "host":
        return Path("/etc/hosts").read_text() + "".join(extra)
    names = _own_names(hostname, job.config.domainname)
    addresses = job.addresses or [one for one in (job.interface.address, job.interface.address6) if one]
    own = "".join(f"{one}\t{names}\n" for one in addresses)
    return LOCAL_HOSTS + "".join(extra) + own


def _extra_host(entry: str, gateway: str) -> str:
    name, _, address = entry.replace("=", ":", 1).partition(":")
    if address == "host-gateway":
        address = gateway
    if not name or not address:
        raise InvalidArgument(f"bad format for add-host: {entry!r}")
    return f"{address.strip('[]')}\t{name}\n"


def _resolv_conf(
    host_config: HostConfig, mode: str, resolver: str, dns: tuple[str, ...], dns_search: tuple[str, ...]
) -> str:
    """The container's own settings, else the engine's, else the host's without servers on its loopback.

    Where there is an embedded ``resolver`` it is the only server, and asks the others; names without a dot are for it
    to know, so ``ndots:0``.
    """
    servers, searches, options = _host_resolver(mode)
    servers = list(host_config.dns or dns) or servers
    searches = list(host_config.dns_search or dns_search) or searches
    options = list(host_config.dns_options or []) or options
    if resolver:
        servers = [resolver]
        if not any(option.startswith("ndots:") for option in options):
            options = [*options, "ndots:0"]
    lines = [f"nameserver {server}" for server in servers]
    if searches and searches != ["."]:
        lines.append("search " + " ".join(searches))
    if options:
        lines.append("options " + " ".join(options))
    return "\n".join(lines) + "\n"


def _host_resolver(mode: str) -> tuple[list[str], list[str], list[str]]:
    try:
        text = Path("/etc/resolv.conf").read_text()
    except OSError:
        return [], [], []
    words = [line.split() for line in text.splitlines() if line.strip() and line[0] not in "#;"]
    servers = [entry[1] for entry in words if entry[0] == "nameserver" and len(entry) > 1]
    if mode != "host":
        servers = [server for server in servers if not _is_loopback(server)]
    searches = next((entry[1:] for entry in reversed(words) if entry[0] in ("search", "domain")), [])
    return servers, searches, [option for entry in words if entry[0] == "options" for option in entry[1:]]


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True
