"""Create: from a request and an image to a complete record."""

from __future__ import annotations

import posixpath
import re
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from services.engine.container import Container
from services.engine.endpoints import asked_endpoints
from services.engine.health import merge_healthcheck
from services.engine.host import facts
from services.engine.hostconfig import check_port, complete_host_config
from services.engine.lifecycle.mounting import confirm_volumes, populate_volumes, provide_volumes
from services.engine.mounts import plan_mounts
from services.engine.mountspecs import Planned
from services.engine.names import random_name
from services.engine.patterns import is_word
from services.engine.platform import check_platform, platform_warnings
from services.engine.record import VERSION, ContainerRecord
from shared.bus.context import asked_again, job_id
from shared.protocol import (
    ContainerConfig,
    ContainerCreated,
    CreateContainer,
    CreateLayer,
    DockyardError,
    HostConfig,
    Image,
    InvalidArgument,
    RemoveLayer,
)
from shared.runtime.signals import parse_signal

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["check_no_nul", "create", "merge_environment"]

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHORT_ID = 12
NOTHING = Image(  # what a build begins with that is from scratch
    id="", architecture=facts().architecture, os="linux", created="", config=ContainerConfig(), config_size=0,
    layers=[], diff_ids=[], chain_ids=[], layer_sizes=[], history=[],
)  # fmt: skip


async def create(engine: Engine, job: CreateContainer) -> ContainerCreated:
    """Create a container: its layer on disk, then its record. Errors as `CreateContainer`."""
    if (made := _made_before(engine)) is not None:
        return ContainerCreated(id=made, warnings=_warnings(engine, job))
    image = NOTHING if job.build and not job.config.image else engine.images.find(job.config.image)
    check_platform(job.config.image, image, job.platform)
    host_config, warnings = complete_host_config(engine, job.config, job.host_config)
    warnings += platform_warnings(image, job.platform)
    container_id = _new_id()
    config = _merge(job.config, image.config, container_id, host_config)
    if job.build:
        config.volumes = None
    args = _command_line(config)
    check_no_nul(Cmd=args, Env=config.env, User=[config.user], WorkingDir=[config.working_dir])
    name = job.name.removeprefix("/") if job.name else random_name(engine.containers.name_taken)
    if not NAME.fullmatch(name):
        raise InvalidArgument(f"Invalid container name ({job.name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    planned = await plan_mounts(engine, config, host_config, read_only_non_recursive=job.read_only_non_recursive)
    record = ContainerRecord(
        id=container_id,
        name=name,
        created=time.time_ns(),
        image=image.id,
        requested_image=job.config.image,
        created_by=job_id(),
        build=job.build,
        args=args,
        config=config,
        host_config=host_config,
        endpoints=asked_endpoints(engine, job, host_config),
        version=VERSION,
    )
    engine.containers.reserve(name, container_id)
    await engine.router.uninterrupted(_add(engine, Container(record), image, planned))
    return ContainerCreated(id=container_id, warnings=warnings)


def _made_before(engine: Engine) -> str | None:
    """Return the id of the container that this job has made already, if it is asked again."""
    if not asked_again():
        return None
    return next((c.id for c in engine.containers if c.record.created_by == job_id()), None)


def _warnings(engine: Engine, job: CreateContainer) -> list[str]:
    """Return again what was said at the time; what it refers to may have gone meanwhile."""
    try:
        return complete_host_config(engine, job.config, job.host_config)[1]
    except DockyardError:
        return []


async def _add(engine: Engine, container: Container, image: Image, planned: list[Planned]) -> None:
    """Make layer and volumes, then the record that owns them; none stays without the others, nor the name."""
    async with engine.graph.coming(container.id):
        try:
            layer = CreateLayer(container=container.id, chain_ids=image.chain_ids)
            container.record.places = await engine.call(layer)
            async with provide_volumes(engine, container, planned):
                await populate_volumes(engine, container)
                for needed in container.record.images:
                    engine.images.require(needed)  # it may have been removed meanwhile
                with engine.store.transaction():
                    confirm_volumes(engine, container.record)
                    engine.store.add_container(container.record)
                    engine.tell(container, "create")
                engine.containers.add(container)
        except BaseException:
            engine.containers.release(container.record.name)
            engine.router.spawn(engine.call(RemoveLayer(container=container.id)))
            raise


def _new_id() -> str:
    """Return 64 hex digits whose first twelve are not all decimal (they serve as a host name)."""
    while (container_id := secrets.token_hex(32))[:SHORT_ID].isdigit():
        pass
    return container_id


def _merge(
    given: ContainerConfig, image: ContainerConfig, container_id: str, host_config: HostConfig
) -> ContainerConfig:
    """Lay a request over the image's config, as moby's runconfig merge does."""
    config = msgspec.structs.replace(given)
    _check(config)
    shares_name = host_config.network_mode == "host" or host_config.uts_mode == "host"
    config.hostname = config.hostname or (facts().hostname if shares_name else container_id[:SHORT_ID])
    config.user = config.user or image.user
    config.working_dir = config.working_dir or image.working_dir
    config.stop_signal = config.stop_signal or image.stop_signal
    config.shell = config.shell or image.shell
    config.healthcheck = merge_healthcheck(config.healthcheck, image.healthcheck)
    config.labels = {**(image.labels or {}), **(config.labels or {})}
    config.exposed_ports = {**(image.exposed_ports or {}), **(config.exposed_ports or {})}
    for port in host_config.port_bindings or {}:
        config.exposed_ports.setdefault(port, {})
    for port in config.exposed_ports:
        check_port(port)
    config.exposed_ports = config.exposed_ports or None
    config.volumes = {**(image.volumes or {}), **(config.volumes or {})} or None
    config.env = merge_environment(image.env or [], config.env or [])
    config.entrypoint, config.cmd = _words(config.entrypoint), _words(config.cmd)
    if config.entrypoint is None:
        config.entrypoint = _words(image.entrypoint)
        if config.cmd is None:
            config.cmd = _words(image.cmd)
    elif config.entrypoint == [""]:
        config.entrypoint = None
    return config


def _check(config: ContainerConfig) -> None:
    """Check what a request says for itself. Errors: InvalidArgument."""
    if config.working_dir:
        if not config.working_dir.startswith("/"):
            why = f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
            raise InvalidArgument(why)
        config.working_dir = posixpath.normpath(config.working_dir)
    if config.stop_signal:
        parse_signal(config.stop_signal)
    for field, name in (("Hostname", config.hostname), ("Domainname", config.domainname)):
        if not is_word(name):
            raise InvalidArgument(f"invalid {field}: {name!r}")
    for entry in config.env or []:
        if not entry.partition("=")[0]:
            raise InvalidArgument(f"invalid environment variable: {entry}")


def check_no_nul(**words: list[str] | None) -> None:
    """Check what is handed to a process: a NUL would end it early. Errors: InvalidArgument."""
    for field, values in words.items():
        for value in values or []:
            if "\0" in value:
                raise InvalidArgument(f"invalid {field}: {value!r} has a NUL in it")


def _words(value: list[str] | str | None) -> list[str] | None:
    return [value] if isinstance(value, str) else value or None


def merge_environment(image: list[str], given: list[str]) -> list[str]:
    """Merge by variable: the request's entry wins, be it a name without ``=`` (the process then has none such).

    The request's come first, as Docker has them.
    """
    own, others = ({entry.split("=", 1)[0]: entry for entry in some} for some in (given, [DEFAULT_PATH, *image]))
    return list((own | {name: entry for name, entry in others.items() if name not in own}).values())


def _command_line(config: ContainerConfig) -> list[str]:
    args = [*(config.entrypoint or []), *(config.cmd or [])]
    if not args:
        raise InvalidArgument("no command specified")
    return args
