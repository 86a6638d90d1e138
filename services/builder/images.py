"""Images: what a FROM names, pulled if it is not there; and the trees of images that steps copy from."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass

from services.builder.containers import Containers, FileTree
from services.builder.output import Output
from shared.bus.bus import Bus
from shared.protocol import (
    AuthConfig,
    BuildImage,
    ContainerConfig,
    ImageInspect,
    InspectImage,
    InvalidArgument,
    NotFound,
    PullImage,
)
from shared.protocol import Output as Status
from shared.protocol.reference import split
from shared.runtime.platforms import parse_platform

__all__ = ["Base", "Images", "check_platform"]

DOCKER_HUB = "docker.io"
HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")


@dataclass(frozen=True)
class Base:
    """``image``: an id, empty for nothing at all. ``platform``: of what is made of nothing, empty for ours."""

    image: str
    config: ContainerConfig
    platform: str = ""


def check_platform(text: str) -> None:
    """Errors: InvalidArgument (no platform, or none of linux)."""
    if text and parse_platform(text).os != "linux":
        raise InvalidArgument("operating system is not supported")


class Images:
    def __init__(self, bus: Bus, job: BuildImage, output: Output, containers: Containers, stack: ExitStack) -> None:
        self._bus, self._job, self._output = bus, job, output
        self._containers, self._stack = containers, stack
        self._trees: dict[str, FileTree] = {}
        self._pulled: set[str] = set()

    def base(self, reference: str, platform: str) -> Base:
        """Return an image, from a registry if it is not here or if that is wanted. Errors: NotFound, of `pull`."""
        wanted = platform or self._job.platform
        check_platform(wanted)
        found = None if self._job.pull and reference not in self._pulled else self._inspect(reference)
        if found is None or not _is_for(found, wanted):
            self._pull(reference, wanted)
            self._pulled.add(reference)
            found = self._inspect(reference)
        if found is None:
            raise NotFound(f"No such image: {reference}")
        return Base(found.id, found.config)

    def _inspect(self, reference: str) -> ImageInspect | None:
        try:
            return self._bus.call(InspectImage(image=reference))
        except NotFound:
            return None

    def _pull(self, reference: str, platform: str) -> None:
        domain, path, tag, digest = split(reference)
        job = PullImage(
            image=f"{domain}/{path}", tag=digest or tag or "latest", platform=platform, auth=self._auth(domain)
        )

        def on_status(status: Status) -> None:
            if status.stream == "progress":
                self._output.tell(json.loads(status.text))

        self._bus.call(job, timeout=None, on_status=on_status)

    def _auth(self, domain: str) -> AuthConfig:
        """Return the user's credentials for a registry, whose name stands with or without a scheme."""
        keys = HUB_KEYS if domain == DOCKER_HUB else (domain, f"https://{domain}", f"http://{domain}")
        known = self._job.registries
        return next((known[key] for key in keys if key in known), AuthConfig())

    def tree(self, image: str) -> FileTree:
        """Have an image's files until the build ends; they are only read."""
        if image not in self._trees:
            self._trees[image] = self._stack.enter_context(self._containers.tree(image))
        return self._trees[image]


def _is_for(image: ImageInspect, platform: str) -> bool:
    if not platform:
        return True
    return parse_platform(platform).is_served_by(image.os, image.architecture, image.variant)
