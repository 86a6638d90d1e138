"""Which image a step would make again."""

from __future__ import annotations

from typing import Any

import msgspec

from services.engine.buildcache import find_cached
from shared.protocol import ContainerConfig, Image, NotFound
from shared.runtime.platforms import parse_platform
from tests.unit.engine.conftest import IMAGE

CONFIG = ContainerConfig(cmd=["x"])


class Known:
    """What `find_cached` asks of `Images`."""

    def __init__(self, *images: Image) -> None:
        self._images = {image.id: image for image in images}

    def __iter__(self) -> Any:
        return iter(self._images.values())

    def by_id(self, image_id: str) -> Image | None:
        return self._images.get(image_id)

    def find(self, ref: str) -> Image:
        if ref not in self._images:
            raise NotFound(ref)
        return self._images[ref]


BASE = msgspec.structs.replace(IMAGE, id="base", history=[{"created_by": "base"}], diff_ids=["d0"], parent="")


def step(name: str, above: Image, created_by: str, *, layer: str = "", **facts: Any) -> Image:
    entry = {"created_by": created_by} if layer else {"created_by": created_by, "empty_layer": True}
    made = {
        "id": name, "parent": above.id, "history": [*above.history, entry], "config": CONFIG,
        "diff_ids": [*above.diff_ids, *([layer] if layer else [])], **facts,
    }  # fmt: skip
    return msgspec.structs.replace(above, **made)


def find(
    images: Known,
    parent: Image | None,
    created_by: str,
    *cachefrom: str,
    config: ContainerConfig = CONFIG,
    platform: str = "linux/amd64",
) -> tuple[str, str]:
    where = parse_platform(platform)
    found, source = find_cached(images, parent, created_by, config, list(cachefrom), where)  # type: ignore[arg-type]
    return (found.id if found else "", source.id if source else "")


def test_the_child_that_the_same_step_made() -> None:
    old = step("old", BASE, "RUN a", layer="d1", created="2020-01-01T00:00:00Z")
    new = step("new", BASE, "RUN a", layer="d2", created="2021-01-01T00:00:00Z")
    images = Known(BASE, old, new, step("other", BASE, "RUN b"))
    assert find(images, BASE, "RUN a") == ("new", "")  # the newest
    assert find(images, BASE, "RUN c") == ("", "")
    assert find(images, new, "RUN a") == ("", "")
    assert find(images, BASE, "RUN a", config=ContainerConfig(cmd=["y"])) == ("", "")
    assert find(images, None, "RUN a") == ("", "")


def test_with_sources_only_what_they_were_made_of_counts() -> None:
    one = step("one", BASE, "RUN a", layer="d1")
    two = step("two", one, "RUN b", layer="d2")
    images = Known(BASE, one, two, step("other", BASE, "RUN c"))
    assert find(images, BASE, "RUN a", "two") == ("one", "")
    assert find(images, BASE, "RUN c", "two") == ("", "")
    assert find(images, BASE, "RUN a", "missing") == ("", "")


def test_a_source_without_parents_has_its_history() -> None:
    loaded = step("two", step("one", BASE, "RUN a", layer="d1"), "ENV b", parent="")
    images = Known(BASE, loaded)
    assert find(images, BASE, "RUN a", "two") == ("", "two")
    made = step("made", BASE, "RUN a", layer="d1")
    assert find(Known(BASE, loaded, made), made, "ENV b", "two") == ("", "two")
    assert find(images, BASE, "RUN other", "two") == ("", "")
    another = step("made", BASE, "RUN a", layer="another")
    assert find(Known(BASE, loaded, another), another, "ENV b", "two") == ("", "")  # not the same layers


def test_what_is_made_of_nothing_is_for_one_platform() -> None:
    entry = {"created_by": "COPY x", "empty_layer": True}
    facts = {"history": [entry], "config": CONFIG, "diff_ids": [], "parent": ""}
    amd64 = msgspec.structs.replace(IMAGE, id="amd64", architecture="amd64", **facts)
    arm = msgspec.structs.replace(IMAGE, id="arm", architecture="arm", variant="v7", **facts)
    images = Known(amd64, arm)
    assert find(images, None, "COPY x") == ("amd64", "")
    assert find(images, None, "COPY x", platform="linux/arm") == ("arm", "")
    assert find(images, None, "COPY x", platform="linux/arm64") == ("", "")
    away = Known(*(msgspec.structs.replace(image, parent="away") for image in (amd64, arm)))
    assert find(away, None, "COPY x", "arm", "amd64") == ("", "amd64")
    assert find(away, None, "COPY x", "amd64", platform="linux/arm/v7") == ("", "")
