"""The commands that are about dockyard itself, this host, and the built-in image."""

from __future__ import annotations

from importlib.metadata import version as distribution_version
from typing import Annotated

import msgspec
import typer

from services.ctl import busybox as builtin_image
from services.ctl.doctor import examine
from services.ctl.options import the_client
from shared.bus.tickets import deliver
from shared.protocol import DockyardError, InspectImage, LoadImages, NotFound, Output, SystemVersion, Ticket

__all__ = ["busybox", "doctor", "version"]


def version() -> None:
    """Show the versions of this command and of the running engine."""
    print(f"dockyard {distribution_version('dockyard')}")
    try:
        answer = the_client().call(SystemVersion(), timeout=3)
    except DockyardError as error:
        print(f"engine: {error.message}")
    else:
        print(f"engine {answer['Version']}, API {answer['MinAPIVersion']} to {answer['ApiVersion']}")


def doctor() -> None:
    """Say what this host lacks, and how to get it."""
    missing = False
    for finding in examine():
        missing |= finding.needed and not finding.ok
        mark = "ok      " if finding.ok else ("MISSING " if finding.needed else "lacking ")
        print(f"{mark} {finding.what}" + ("" if finding.ok else f": {finding.remedy}"))
    raise typer.Exit(int(missing))


def busybox(force: Annotated[bool, typer.Option(help="Even if there is one.")] = False) -> None:
    """Make the built-in busybox image from the distribution's busybox-static, unless there is one."""
    client = the_client()
    if not force:
        try:
            client.call(InspectImage(image="busybox"))
            return
        except NotFound:
            pass

    def send(output: Output) -> None:
        if output.stream == "ticket":
            deliver(msgspec.json.decode(output.text, type=Ticket), [builtin_image.archive()])

    client.call(LoadImages(), on_status=send)
