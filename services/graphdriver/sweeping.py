"""Sweeping: what a job has put into the store is removed if nothing comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from shared.bus.context import unhindered
from shared.protocol import CollectGarbage, DockyardError
from shared.runtime.reasons import reason

if TYPE_CHECKING:
    from services.graphdriver.handlers import GraphDriver

__all__ = ["swept"]

TIMEOUT = 60.0  # seconds: without an engine it is done at the next boot


@contextmanager
def swept(driver: GraphDriver, what: str) -> Iterator[None]:
    """Make an image, and have a collection if that fails: blobs and layers that are visible already are nobody's.

    What others hold, or have on record, stays. Errors: DockyardError for an OSError, which ``what`` begins.
    """
    before = driver.blobs.durable.changes
    try:
        yield
    except BaseException as error:
        if driver.blobs.durable.changes != before:
            with unhindered(), suppress(DockyardError):
                driver.bus.call(CollectGarbage(), timeout=TIMEOUT)
        if isinstance(error, OSError):
            raise DockyardError(f"{what}: {reason(error)}") from error
        raise
