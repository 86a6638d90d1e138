"""Older clients: what they could not ask for and is ignored, what they take for granted, what they were shown.

The API's version history (moby api/docs/CHANGELOG.md); each function says from which version on it is otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from services.apiserver.spelling import member
from services.apiserver.versions import api_version
from shared.protocol import (
    BindOptions,
    ContainerInspect,
    ContainerSummary,
    CreateContainer,
    DiskUsage,
    EndpointSettings,
    Event,
    ImageInspect,
    ImageSummary,
    InvalidArgument,
    Mount,
    NotImplementedByUs,
    is_user_defined,
)

__all__ = [
    "ask_for_images",
    "can_see",
    "creating",
    "refuse_kernel_memory",
    "show_container",
    "show_disk_usage",
    "show_image",
    "show_images",
    "show_info",
    "show_summaries",
    "warnings",
]

SHORT_ID = 12
NONE_TAG, NONE_DIGEST = "<none>:<none>", "<none>@<none>"
VOLUME_DRIVER_IGNORED = (
    "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. "
    "Use '--mount type=volume,volume-driver=...' instead"
)
MAC_ADDRESS_DEPRECATED = (
    "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
)
NO_TIME = "0001-01-01T00:00:00Z"
# Of a container's config, what an image's does not have since 1.50.
NOT_OF_IMAGES = (
    "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
    "NetworkDisabled", "MacAddress", "StopTimeout",
)  # fmt: skip
UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")  # there with cgroup v2 alone


def creating(job: CreateContainer) -> None:
    """Adapt a request to create a container. Errors: InvalidArgument (what would change what the container sees)."""
    version, host_config = api_version(), job.host_config
    if version < (1, 25):
        host_config.auto_remove = False  # the client removed it
    if version < (1, 40):
        host_config.kernel_memory_tcp = 0
        host_config.ipc_mode = host_config.ipc_mode or "shareable"
    if version < (1, 41) and not UNIFIED.exists():
        host_config.cgroupns_mode = host_config.cgroupns_mode or "host"
    if version < (1, 42):
        host_config.console_size = None
    if version < (1, 43):
        host_config.annotations = None
    if version < (1, 44):
        _one_network(job)
        _no_mac_addresses(job)
        if job.config.healthcheck is not None:
            job.config.healthcheck.start_interval = 0
    if version < (1, 48):
        for endpoint in _endpoints(job).values():
            endpoint.gw_priority = 0
    for mount in host_config.mounts or []:
        _mount(version, mount)


def _endpoints(job: CreateContainer) -> dict[str, EndpointSettings]:
    asked = (job.networking_config.endpoints_config if job.networking_config else None) or {}
    return {name: endpoint for name, endpoint in asked.items() if endpoint is not None}


def refuse_kernel_memory(host_config: Any) -> None:
    """Until API 1.41 kernel memory could be limited, as kernels before 5.4 could. Errors: NotImplementedByUs."""
    asked = member(host_config, "KernelMemory") if isinstance(host_config, dict) else None
    if asked and api_version() < (1, 42):
        raise NotImplementedByUs("KernelMemory is not implemented: the kernel has no such limit any more")


def _one_network(job: CreateContainer) -> None:
    asked = (job.networking_config.endpoints_config if job.networking_config else None) or {}
    if len(asked) > 1:
        raise InvalidArgument(f"Container cannot be created with multiple network endpoints: {', '.join(asked)}")


def _no_mac_addresses(job: CreateContainer) -> None:
    """There was one for the container, and none for endpoints. Errors: InvalidArgument (it has no network for one)."""
    mode = job.host_config.network_mode
    if job.config.mac_address and not (mode in ("", "default", "bridge") or is_user_defined(mode)):
        raise InvalidArgument("conflicting options: mac-address and the network mode")
    for endpoint in _endpoints(job).values():
        endpoint.mac_address = ""


def warnings(job: CreateContainer) -> list[str]:
    """Return what newer clients leave to us to say."""
    version, driver, said = api_version(), job.host_config.volume_driver, list[str]()
    volumes = [mount.volume_options for mount in job.host_config.mounts or [] if mount.type == "volume"]
    if (
        version >= (1, 48)
        and driver
        and not all(one and one.driver_config and one.driver_config.name for one in volumes)
    ):
        said.append(VOLUME_DRIVER_IGNORED)
    if version >= (1, 44) and job.config.mac_address:
        said.append(MAC_ADDRESS_DEPRECATED)
    return said


def _mount(version: tuple[int, int], mount: Mount) -> None:
    if version < (1, 42):  # what was not looked at
        mount.volume_options = mount.volume_options if mount.type == "volume" else None
        mount.tmpfs_options = mount.tmpfs_options if mount.type == "tmpfs" else None
    options = mount.bind_options
    if options is not None and version < (1, 40):
        options.non_recursive = False
    if options is not None and version < (1, 42):
        options.create_mountpoint = False
    if mount.type == "bind" and version < (1, 44):
        if options is not None and options.read_only_force_recursive:
            raise InvalidArgument("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
        if mount.read_only:  # older ones know of no other
            mount.bind_options = options or BindOptions()
            mount.bind_options.read_only_non_recursive = True
    if mount.volume_options is not None and mount.volume_options.subpath and version < (1, 45):
        raise InvalidArgument("VolumeOptions.Subpath needs API v1.45 or newer")
    if mount.tmpfs_options is not None and mount.tmpfs_options.options and version < (1, 46):
        raise InvalidArgument("TmpfsOptions.Options needs API v1.46 or newer")
    if mount.type == "image" and version < (1, 48):
        raise InvalidArgument('Mount type "Image" needs API v1.48 or newer')


def show_container(shown: ContainerInspect) -> ContainerInspect:
    """Before 1.45 the short id and the host's name were among the aliases of networks that users made."""
    if api_version() < (1, 45):
        for name, endpoint in shown.network_settings.networks.items():
            if is_user_defined(name):
                aliases = [*(endpoint.aliases or []), shown.id[:SHORT_ID], shown.config.hostname]
                endpoint.aliases = list(dict.fromkeys(aliases))
    return shown


def show_summaries(shown: list[ContainerSummary]) -> list[ContainerSummary]:
    """Before 1.46 there were no annotations."""
    for summary in shown:
        if api_version() < (1, 46):
            summary.host_config.annotations = None
    return shown


def ask_for_images(filters: dict[str, list[str]], reference: str) -> dict[str, list[str]]:
    """Before 1.41 there was a parameter ``filter`` with a name."""
    if reference and api_version() < (1, 41):
        return {**filters, "reference": [*filters.get("reference", []), reference]}
    return filters


def show_images(shown: list[ImageSummary]) -> list[ImageSummary]:
    """Before 1.43 an image without a name had one of none; before 1.44 there was a size for it and all below.

    How many containers are of it is counted since 1.51.
    """
    for summary in shown:
        if api_version() < (1, 51):
            summary.containers = -1
        if api_version() < (1, 43) and not (summary.repo_tags or summary.repo_digests):
            summary.repo_tags, summary.repo_digests = [NONE_TAG], [NONE_DIGEST]
        if api_version() < (1, 44):
            summary.virtual_size = summary.size
    return shown


def show_image(shown: ImageInspect) -> dict[str, Any]:
    """Before 1.44 there was a size for it and all below; before 1.45 the container it was made of, and its config.

    An image that does not say when it was made was of the year 1; since 1.44 nothing is said of it.
    Before 1.50 the image's own config had all members of a container's.
    """
    if api_version() < (1, 44):
        shown.virtual_size = shown.size
    if api_version() < (1, 45):
        shown.container, shown.container_config = "", shown.config  # Compose 1 reads the volumes there
    made: dict[str, Any] = msgspec.to_builtins(shown)
    if not made["Created"]:
        del made["Created"]
        if api_version() < (1, 44):
            made["Created"] = NO_TIME
    if api_version() >= (1, 50):
        made["Config"] = {name: value for name, value in made["Config"].items() if name not in NOT_OF_IMAGES}
    return made


def show_info(shown: dict[str, Any]) -> dict[str, Any]:
    """Before 1.49 it was told which versions of other programs were expected; before 1.50, what bridges filter.

    What the firewall is made with is told since 1.49.
    """
    version = api_version()
    if version < (1, 25):
        shown["SecurityOptions"] = [
            option.partition(",")[0].removeprefix("name=") for option in shown["SecurityOptions"]
        ]
    if version < (1, 47):
        for kind in ("CIDRs", "Hostnames"):
            shown["RegistryConfig"][f"AllowNondistributableArtifacts{kind}"] = None
    if version < (1, 49):
        for program in ("Containerd", "Runc", "Init"):
            commit = shown[f"{program}Commit"]
            commit["Expected"] = commit["ID"]
        shown.pop("FirewallBackend", None)
    if version < (1, 50):
        shown["BridgeNfIptables"] = shown["BridgeNfIp6tables"] = False
    return shown


def show_disk_usage(shown: DiskUsage) -> dict[str, Any]:
    """Before 1.44 images had a size with all below; before 1.42 there was one of all that the builder keeps."""
    if api_version() < (1, 44):
        for summary in shown.images or []:
            summary.virtual_size = summary.size
    made: dict[str, Any] = msgspec.to_builtins(shown)
    size = sum(cache["Size"] for cache in made.get("BuildCache") or [])
    if api_version() < (1, 42) and size:  # moby leaves a zero out
        made["BuilderSize"] = size
    return made


def can_see(event: Event) -> bool:
    """Before 1.46 nobody was told that an image was made."""
    return api_version() >= (1, 46) or (event.type, event.action) != ("image", "create")
