"""Completion: what the shell offers for a word that is being typed. It never fails, and never waits for long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import typer

from services.ctl.joblist import is_ours
from services.ctl.shapes import fields_of, normal, settings_of, takes_list
from services.ctl.stack import Stack, StackError
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.protocol import (
    DockyardError,
    Job,
    JobNotFound,
    ListCommands,
    ListContainers,
    ListImages,
    ListJobs,
    PastJob,
    catalogue,
    job_type,
)
from shared.runtime.config import Config, ConfigError
from shared.runtime.loading import load_config

__all__ = ["PATIENCE", "arguments", "jobs", "past_jobs", "running_jobs", "services", "settings"]

R = TypeVar("R")
PATIENCE = 0.7  # seconds that a process may take to answer
OFFERED = 100  # jobs


def jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the jobs that are registered; if nobody answers, all there are."""
    names = _ask(ctx, ListCommands(), otherwise=sorted(catalogue()))
    return _beginning(incomplete, names)


def arguments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer what a job's argument may be, where it is known: containers, images; after ``help``, jobs."""
    name, words = ctx.params.get("name"), ctx.params.get("arguments") or []
    if name == "help":
        return jobs(ctx, incomplete) if not words else []
    try:
        kind = job_type(str(name))
    except JobNotFound:
        return []
    position = min(len(words), len(kind.ARGS) - 1) if takes_list(kind) else len(words)
    source = SOURCES.get(kind.ARGS[position]) if position < len(kind.ARGS) else None
    return _beginning(incomplete, source(ctx)) if source is not None else []


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the keys of a job's settings, each once, as ``KEY=``."""
    try:
        kind = job_type(ctx.args[0] if ctx.args else "")  # words before an option without a value are not parsed yet
    except JobNotFound:
        return []
    keys = {normal(path[-1].encode_name): f"{path[-1].encode_name}=" for path in settings_of(fields_of(kind))}
    return _beginning(incomplete, keys.values())


def past_jobs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the newest jobs by id, each with its call."""
    return _by_id(_ask(ctx, ListJobs(limit=OFFERED), otherwise=[]), incomplete)


def running_jobs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the jobs that are under way by id, each with its call."""
    return _by_id(_ask(ctx, ListJobs(running=True, limit=OFFERED), otherwise=[]), incomplete)


def _by_id(found: list[PastJob], incomplete: str) -> list[tuple[str, str]]:
    return [(job.id, f"{job.name}({job.args})") for job in found if job.id.startswith(incomplete) and not is_ours(job)]


def services(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the services that the arbiter runs."""
    config = _config(ctx)
    if config is None:
        return []
    stack = Stack(config.run, timeout=PATIENCE)
    try:
        return _beginning(incomplete, stack.services())
    except StackError:
        return []
    finally:
        stack.close()


def _containers(ctx: typer.Context) -> list[str]:
    return [
        name.removeprefix("/") for entry in _ask(ctx, ListContainers(all=True), otherwise=[]) for name in entry.names
    ]


def _images(ctx: typer.Context) -> list[str]:
    return [tag for entry in _ask(ctx, ListImages(), otherwise=[]) for tag in entry.repo_tags]


SOURCES: dict[str, Callable[[typer.Context], list[str]]] = {
    "container": _containers,
    "image": _images,
    "images": _images,
}


def _beginning(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _ask(ctx: typer.Context, job: Job[R], *, otherwise: R) -> R:
    config = _config(ctx)
    if config is None or not (config.run / "engine.sock").exists():
        return otherwise
    client = Client(engine_endpoint(config.run), "ctl")
    try:
        return client.call(job, timeout=PATIENCE)
    except DockyardError:
        return otherwise
    finally:
        client.close()


def _config(ctx: typer.Context) -> Config | None:
    """Return the configuration that the words before the command lead to: no command has been run yet."""
    given: dict[str, Any] = ctx.find_root().params
    try:
        return load_config({key: given.get(key) for key in ("root", "run")}, os.environ, given.get("config"))
    except ConfigError:
        return None
