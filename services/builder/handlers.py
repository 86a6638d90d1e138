"""Job ↔ operation."""

from __future__ import annotations

import shutil

from services.builder.build import Build
from services.builder.caches import Caches
from services.builder.output import Output
from shared.bus.bus import Bus
from shared.bus.context import Context, asked_again, current, job_id
from shared.bus.handlers import Handlers
from shared.bus.tickets import TicketServer
from shared.protocol import (
    BuildCache,
    BuildCachePruned,
    BuildImage,
    DockyardError,
    Header,
    ListBuildCache,
    ListBuilds,
    LogEvent,
    NotImplementedByUs,
    PruneBuildCache,
    Unavailable,
)
from shared.runtime.config import Config
from shared.runtime.reasons import reason

__all__ = ["Builder", "jobs"]


class Builder:
    """``temporary`` is what builds under way have on disk; what a killed builder left there is removed."""

    def __init__(self, config: Config, bus: Bus) -> None:
        root = config.root / "builder"
        self.temporary, self.secrets = root / "tmp", config.run / "builder"
        for directory in (self.temporary, self.secrets):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.caches = Caches(root / "cache")
        self.tickets = TicketServer(config.run / "builder.tickets")
        self.bus, self.config = bus, config
        self.builds: dict[str, Context] = {}

    def cancel_all(self) -> None:
        """End all builds: the process is about to."""
        for context in list(self.builds.values()):
            context.cancelled.set()


jobs: Handlers[Builder] = Handlers()


@jobs.handles(BuildImage)
def build(builder: Builder, job: BuildImage) -> str:
    if asked_again():
        raise DockyardError("the build was lost: the builder was restarted")
    if job.squash:
        raise NotImplementedByUs("squash is not supported: build in stages and copy what is wanted to the last one")
    if job.isolation not in ("", "default"):
        raise NotImplementedByUs(f"isolation {job.isolation} is not supported on linux")
    context = current.get() or Context(Header(), lambda output: None)
    builder.builds[job_id()] = context
    try:
        with Output(builder.tickets, quiet=job.quiet) as output:
            return Build(builder, job, output).run()
    except Unavailable as error:
        raise DockyardError(error.message) from error  # it ends the build: it is not to be asked for again
    except OSError as error:
        raise DockyardError(f"build: {reason(error)}") from error
    finally:
        builder.builds.pop(job_id(), None)


@jobs.handles(ListBuilds)
def builds(builder: Builder, job: ListBuilds) -> list[str]:
    return sorted(builder.builds)


@jobs.handles(ListBuildCache)
def build_cache(builder: Builder, job: ListBuildCache) -> list[BuildCache]:
    return builder.caches.shown()


@jobs.handles(PruneBuildCache)
def prune(builder: Builder, job: PruneBuildCache) -> BuildCachePruned:
    pruned = builder.caches.prune(job.filters, job.keep_storage)
    told = {"reclaimed": str(pruned.space_reclaimed)}
    builder.bus.call(LogEvent(action="prune", id="", type="builder", attributes=told))
    return pruned
