"""What the engine records of images that come from registries, or go there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.protocol import (
    DeleteImage,
    Descriptor,
    Image,
    InspectImage,
    ListImages,
    ListPushable,
    NotFound,
    ReadEvents,
    SetImage,
    TagImage,
)
from tests.unit.engine.conftest import IMAGE

DIGESTS = [f"sha256:{n}" + "0" * 63 for n in range(4)]
LAYER = Descriptor(media_type="x", digest=DIGESTS[3], size=1)
OTHER = msgspec.structs.replace(IMAGE, id="sha256:" + "f" * 64, layers=[LAYER])


def pulled(
    stack: Any, image: Image = OTHER, name: str = "box:5000/x", tag: str = "1", digest: str = DIGESTS[0]
) -> None:
    stack.client.call(SetImage(image=image, tags=[f"{name}:{tag}", f"{name}@{digest}"], action="pull"))


def deleted(stack: Any, ref: str, **options: bool) -> list[str]:
    return [entry.untagged or entry.deleted for entry in stack.client.call(DeleteImage(image=ref, **options))]


def test_a_digest_names_an_image_but_is_no_tag(stack: Any) -> None:
    pulled(stack)
    for ref in (f"box:5000/x@{DIGESTS[0]}", f"box:5000/x:whatever@{DIGESTS[0]}", "box:5000/x:1"):
        shown = stack.client.call(InspectImage(image=ref))
        assert (shown.id, shown.repo_tags, shown.repo_digests) == (
            OTHER.id,
            ["box:5000/x:1"],
            [f"box:5000/x@{DIGESTS[0]}"],
        )
    (summary,) = [image for image in stack.client.call(ListImages()) if image.id == OTHER.id]
    assert summary.repo_digests == [f"box:5000/x@{DIGESTS[0]}"]
    stack.restart_engine()
    assert stack.client.call(InspectImage(image=f"box:5000/x@{DIGESTS[0]}")).id == OTHER.id


def test_events_tell_of_pulls_and_pushes(stack: Any) -> None:
    pulled(stack)
    tags = ["box:5000/x:1", f"box:5000/x@{DIGESTS[1]}"]
    stack.client.call(SetImage(image=OTHER, tags=tags, action="push"))
    events = stack.client.call(ReadEvents())
    told = [(e.action, e.actor.id, e.actor.attributes) for e in events if e.action in ("pull", "push")]
    attributes = {"from": "image", "name": "box:5000/x"}  # its labels too
    assert told == [(action, "box:5000/x:1", attributes) for action in ("pull", "push")]
    assert len(stack.client.call(InspectImage(image=OTHER.id)).repo_digests) == 2


def test_a_push_does_not_bring_back_what_was_deleted(stack: Any) -> None:
    pulled(stack)
    assert deleted(stack, "box:5000/x:1")[-1]
    stack.client.call(SetImage(image=OTHER, tags=["box:5000/x:1", f"box:5000/x@{DIGESTS[1]}"], action="push"))
    with pytest.raises(NotFound):
        stack.client.call(InspectImage(image=OTHER.id))


def test_digests_go_with_their_repositorys_last_tag(stack: Any) -> None:
    pulled(stack)
    pulled(stack, tag="2", digest=DIGESTS[1])
    stack.client.call(TagImage(image="box:5000/x:1", repo="mine", tag="3"))
    assert deleted(stack, "box:5000/x:2") == ["box:5000/x:2"]
    assert deleted(stack, f"box:5000/x@{DIGESTS[1]}") == [f"box:5000/x@{DIGESTS[1]}"]
    assert deleted(stack, "box:5000/x:1") == ["box:5000/x:1", f"box:5000/x@{DIGESTS[0]}"]
    assert deleted(stack, "mine:3")[:2] == ["mine:3", OTHER.id]


def test_an_image_by_digest_alone(stack: Any) -> None:
    stack.client.call(SetImage(image=OTHER, tags=[f"box:5000/x@{DIGESTS[0]}"], action="pull"))
    (summary,) = [image for image in stack.client.call(ListImages()) if image.id == OTHER.id]
    assert summary.repo_tags == []
    assert deleted(stack, f"box:5000/x@{DIGESTS[0]}")[:2] == [f"box:5000/x@{DIGESTS[0]}", OTHER.id]


def test_what_a_push_has_to_send(stack: Any) -> None:
    pulled(stack)
    pulled(stack, tag="2")
    pulled(stack, name="box:5000/y", digest=DIGESTS[2])
    pulled(stack, name="elsewhere:5000/z")
    (found,) = stack.client.call(ListPushable(domain="box:5000", path="x", tag="2"))
    assert (found.image.id, found.tag, found.mounts) == (OTHER.id, "2", {LAYER.digest: ["y"]})
    assert [one.tag for one in stack.client.call(ListPushable(domain="box:5000", path="x"))] == ["1", "2"]
    with pytest.raises(NotFound, match="An image does not exist locally with the tag: box:5000/n"):
        stack.client.call(ListPushable(domain="box:5000", path="n", tag="1"))
    with pytest.raises(NotFound, match="tag does not exist: busybox:9"):
        stack.client.call(ListPushable(domain="docker.io", path="library/busybox", tag="9"))
