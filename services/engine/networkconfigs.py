"""Networkconfigs: networks that are nothing but a configuration for others (``ConfigOnly``, ``ConfigFrom``).

Rules and texts as moby's: such a network has what is particular to a network (addresses, the driver's options, labels),
a network made from it what its operator decides (driver, internal, attachable), and neither has the other's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from services.engine.networkspecs import check_name, ipam_configs
from shared.protocol import IPAM, CreateNetwork, NotFound, PermissionDenied

if TYPE_CHECKING:
    from services.engine.networks import Networks

__all__ = ["check_config_only", "configured"]


def check_config_only(job: CreateNetwork) -> None:
    """Check what is asked of a configuration. Errors: InvalidArgument, PermissionDenied."""
    check_name(job.name)
    if job.config_from:
        raise PermissionDenied("a configuration network cannot depend on another configuration network")
    if job.ingress or job.internal or job.attachable or job.scope:
        raise PermissionDenied(
            "configuration network can only contain network specific fields. "
            "Network operator fields like [ ingress | internal | attachable | scope ] are not supported."
        )
    ipam_configs(job)


def configured(networks: Networks, job: CreateNetwork) -> CreateNetwork:
    """Return the job with the configuration that it names, if it names one. Errors: NotFound, PermissionDenied."""
    if not job.config_from:
        return job
    depends = "if the network depends on a configuration network"
    ipam = job.ipam or IPAM()
    own = (ipam.driver not in ("", "default"), job.enable_ipv4 is False, job.enable_ipv6, job.labels)
    if any((*own, ipam.options, ipam.config)):
        raise PermissionDenied(f"user specified configurations are not supported {depends}")
    if job.options:
        raise PermissionDenied(f"network driver options are not supported {depends}")
    record = networks.get(networks.id_of(job.config_from))
    if record is None or record.config is None:
        raise NotFound(f'configuration network "{job.config_from}" does not exist')
    config = record.config
    return msgspec.structs.replace(
        job,
        ipam=config.ipam,
        enable_ipv4=config.enable_ipv4,
        enable_ipv6=config.enable_ipv6,
        options=config.options,
        labels=config.labels,
    )
