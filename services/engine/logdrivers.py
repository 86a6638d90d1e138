"""Log drivers: how a container's output is kept, and what is told of it."""

from __future__ import annotations

import re
from pathlib import Path

from services.engine.record import ContainerRecord
from shared.protocol import InvalidArgument, LogConfig, LogPolicy, LogStream, NotImplementedByUs
from shared.runtime.config import Config
from shared.runtime.logs.files import LogFiles
from shared.runtime.logs.options import Unsupported, check_host, check_options, limits_of, parse_options

__all__ = ["complete_log_config", "log_path", "log_policy", "log_stream"]

SHORT_ID = 12
DEFAULT_TAG = "{{.ID}}"
FIELD = re.compile(r"\{\{\s*(\.\w+)\s*\}\}")


def complete_log_config(config: Config, given: LogConfig) -> LogConfig:
    """Lay what was asked over the default driver and its options. Errors: InvalidArgument, NotImplementedByUs."""
    driver, options = given.type or config.log_driver, dict(given.config or {})
    if driver == config.log_driver:
        options = {**parse_options(config.log_opts), **options}
    try:
        check_options(driver, options)
        check_host(driver)
    except Unsupported as error:
        raise NotImplementedByUs(str(error)) from None
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
    return LogConfig(type=driver, config=options)


def log_policy(record: ContainerRecord) -> LogPolicy:
    """Return what the execdriver needs to know."""
    driver, options = record.host_config.log_config.type, record.host_config.log_config.config or {}
    if driver in ("none", "journald"):
        return LogPolicy(driver=driver, tag=_tag(record, options.get("tag") or DEFAULT_TAG))
    limits = limits_of(driver, options)
    return LogPolicy(driver=driver, max_size=limits.max_size, max_file=limits.max_file, compress=limits.compress)


def log_path(config: Config, record: ContainerRecord) -> Path:
    return LogFiles(config.root / "containers" / record.id).current


def log_stream(config: Config, record: ContainerRecord) -> LogStream:
    """Say where a container's output is. Errors: NotImplementedByUs (it is not kept)."""
    if record.host_config.log_config.type == "none":
        raise NotImplementedByUs("configured logging driver does not support reading")
    return LogStream(
        container=record.id,
        tty=record.config.tty,
        driver=record.host_config.log_config.type,
        path=str(log_path(config, record)),
        generation=record.generation,
        running=record.running,
        attributes=_attributes(record),
    )


def _attributes(record: ContainerRecord) -> dict[str, str]:
    """Return the labels and variables that the options name, and the tag (moby daemon/logger/loginfo.go)."""
    options = record.host_config.log_config.config or {}
    labels = record.config.labels or {}
    environment = dict(entry.split("=", 1) for entry in record.config.env or [] if "=" in entry)
    found = {**_chosen(labels, options, "labels"), **_chosen(environment, options, "env")}
    if tag := options.get("tag"):
        found["tag"] = _tag(record, tag)
    return found


def _chosen(values: dict[str, str], options: dict[str, str], option: str) -> dict[str, str]:
    names = options.get(option, "").split(",")
    pattern = options.get(f"{option}-regex")
    return {
        name: value
        for name, value in values.items()
        if name in names or (pattern and re.search(pattern, name) is not None)
    }


def _tag(record: ContainerRecord, template: str) -> str:
    values = {
        ".ID": record.id[:SHORT_ID],
        ".FullID": record.id,
        ".Name": record.name,
        ".FullName": f"/{record.name}",
        ".ImageID": record.image[:SHORT_ID],
        ".ImageFullID": record.image,
        ".ImageName": record.requested_image,
        ".DaemonName": "docker",
    }
    return FIELD.sub(lambda match: values[match[1]], template)
