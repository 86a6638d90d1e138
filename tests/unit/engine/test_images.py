"""Images: prune, and the platform that a container asks for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.bus.context import Context, current
from shared.protocol import (
    CollectGarbage,
    Conflict,
    ContainerConfig,
    CreateContainer,
    DeletedImage,
    DeleteImage,
    Descriptor,
    EndBuild,
    FindCached,
    GraphCollect,
    Header,
    InspectContainer,
    InspectImage,
    InvalidArgument,
    KillContainer,
    ListContainers,
    ListImages,
    NotFound,
    PruneImages,
    ReadEvents,
    RemoveContainer,
    SaveImages,
    SetImage,
    StartContainer,
    TagImage,
    new_id,
)
from tests.unit.engine.conftest import IMAGE
from tests.unit.engine.doing import create
from tests.unit.engine.test_jobs import until

BUSYBOX = IMAGE.id


def image(stack: Any, digit: str, *tags: str, action: str = "load", **facts: Any) -> str:
    """Record an image with a layer of its own over busybox's."""
    made = msgspec.structs.replace(
        IMAGE,
        **{
            "id": f"sha256:{digit * 64}",
            "chain_ids": [*IMAGE.chain_ids, f"sha256:{digit * 63}f"],
            "layer_sizes": [10, 5],
            "config": ContainerConfig(cmd=["sh"], labels={"digit": digit}),
            **facts,
        },
    )
    stack.client.call(SetImage(image=made, tags=[f"docker.io/library/{tag}" for tag in tags], action=action))
    return made.id


def left(stack: Any) -> set[str]:
    return {summary.id for summary in stack.client.call(ListImages(all=True))}


def prune(stack: Any, **filters: list[str]) -> list[DeletedImage] | None:
    found: list[DeletedImage] | None = stack.client.call(PruneImages(filters=filters)).images_deleted
    return found


def test_a_prune_takes_what_has_no_name(stack: Any) -> None:
    tagged, dangling = image(stack, "1", "one:latest"), image(stack, "2")
    stack.world.script["graph_collect"] = lambda job: 5
    pruned = stack.client.call(PruneImages())
    assert pruned.images_deleted == [DeletedImage(deleted=dangling), DeletedImage(deleted=f"sha256:{'2' * 63}f")]
    assert pruned.space_reclaimed == 5
    assert left(stack) == {BUSYBOX, tagged}
    event = stack.client.call(ReadEvents(after=0))[-1]
    assert (event.type, event.action, event.actor.attributes) == ("image", "prune", {"reclaimed": "5"})


def test_a_reference_is_that_of_a_tag_or_of_a_digest(stack: Any) -> None:
    digest = f"sha256:{'d' * 64}"
    image(stack, "1", "one:latest", "one:two", f"one@{digest}")
    stack.client.call(TagImage(image="one", repo="host.example/one", tag="two"))

    def listed(pattern: str) -> list[tuple[list[str], list[str]]]:
        shown = stack.client.call(ListImages(filters={"reference": [pattern]}))
        return [(sorted(summary.repo_tags), sorted(summary.repo_digests)) for summary in shown]

    assert listed("one") == [(["one:latest", "one:two"], [f"one@{digest}"])]
    assert listed("*:two") == [(["one:two"], [])]  # a star stands for no slash
    assert listed("*/one:t?o") == [(["host.example/one:two"], [])]
    assert listed(f"one@{digest}") == [([], [f"one@{digest}"])]
    assert listed("two") == []


def test_a_tag_is_not_named_as_a_digest_is(stack: Any) -> None:
    with pytest.raises(InvalidArgument, match="refusing to create an ambiguous tag using digest algorithm as name"):
        stack.client.call(TagImage(image="busybox", repo="sha256", tag="aaa"))


def test_the_variables_that_are_asked_for_come_before_the_images(stack: Any) -> None:
    image(stack, "1", "one:latest", config=ContainerConfig(cmd=["sh"], env=["A=1", "B=2", "PATH=/bin"]))
    config = ContainerConfig(image="one", env=["C=3", "A=4", "B"])
    stack.client.call(CreateContainer(name="web", config=config))
    shown = stack.client.call(InspectContainer(container="web"))
    assert shown.config.env == ["C=3", "A=4", "B", "PATH=/bin"]


def test_a_prune_collects_what_came_to_nothing(stack: Any) -> None:
    stack.world.script["graph_collect"] = lambda job: 7
    pruned = stack.client.call(PruneImages())
    assert (pruned.images_deleted, pruned.space_reclaimed) == (None, 7)


def test_nothing_to_prune_is_null(stack: Any) -> None:
    assert prune(stack) is None


def test_all_that_no_container_has(stack: Any) -> None:
    create(stack)  # of busybox; it need not run
    one = image(stack, "1", "one:latest", "one:two")
    gone = prune(stack, dangling=["false"])
    assert gone is not None
    assert {entry.untagged for entry in gone} == {"one:latest", "one:two", ""}
    assert DeletedImage(deleted=one) in gone
    assert left(stack) == {BUSYBOX}


def test_what_others_were_made_of_stays_as_long_as_they_do(stack: Any) -> None:
    parent = image(stack, "1")
    child = image(stack, "2", "two:latest", parent=parent)
    assert prune(stack) is None
    assert left(stack) == {BUSYBOX, parent, child}
    assert {summary.id for summary in stack.client.call(ListImages())} == {BUSYBOX, child}
    assert stack.client.call(ListImages(filters={"dangling": ["true"]})) == []


def test_with_an_image_goes_what_it_was_made_of(stack: Any) -> None:
    """Up to what has a name, or something else was made of."""
    base = image(stack, "1", "base:latest")
    first = image(stack, "2", parent=base)
    second = image(stack, "3", parent=first)
    other = image(stack, "4", parent=first)
    image(stack, "5", "top:latest", parent=second)
    gone = [entry.deleted for entry in stack.client.call(DeleteImage(image="top")) if entry.deleted]
    assert [id_ for id_ in gone if id_.endswith(("5" * 9, "3" * 9))] == [f"sha256:{d * 64}" for d in "53"]
    assert left(stack) == {BUSYBOX, base, first, other}
    stack.client.call(DeleteImage(image=other, noprune=True))
    assert left(stack) == {BUSYBOX, base, first}


def test_what_a_build_has_come_to_is_not_pruned(stack: Any) -> None:
    config = ContainerConfig(cmd=["x"])
    made = image(stack, "1", parent=BUSYBOX, history=[*IMAGE.history, {"created_by": "RUN x"}], config=config)
    build = new_id()
    token = current.set(Context(Header(id=build), lambda output: None))  # the builder's job
    try:
        assert stack.client.call(FindCached(parent=BUSYBOX, created_by="RUN x", config=config)) == made
    finally:
        current.reset(token)
    assert prune(stack) is None
    stack.client.call(EndBuild(build=build))
    assert prune(stack) is not None
    assert left(stack) == {BUSYBOX}


def test_what_others_were_made_of_is_not_deleted_but_loses_its_name(stack: Any) -> None:
    base = image(stack, "1", "base:latest")
    image(stack, "2", "top:latest", parent=base)
    with pytest.raises(Conflict, match=r"cannot be forced.* image has dependent child images"):
        stack.client.call(DeleteImage(image=base, force=True))
    assert [entry.deleted for entry in stack.client.call(DeleteImage(image="base"))] == [""]
    assert base in left(stack)


@pytest.mark.parametrize("tag", ["", "1"])
def test_no_tag_is_a_digest(stack: Any, tag: str) -> None:
    with pytest.raises(InvalidArgument, match="refusing to create a tag with a digest reference"):
        stack.client.call(TagImage(image="busybox", repo=f"x@sha256:{'a' * 64}", tag=tag))
    assert left(stack) == {BUSYBOX}


def test_an_image_without_a_comment_has_that_of_its_last_step(stack: Any) -> None:
    one = image(stack, "1", history=[{"comment": "first"}, {"comment": "last"}])
    two = image(stack, "2", history=[{"comment": "last"}], comment="own")
    three = image(stack, "3", history=[])
    assert [stack.client.call(InspectImage(image=ref)).comment for ref in (one, two, three)] == ["last", "own", ""]


def test_filters_of_a_prune(stack: Any) -> None:
    one, two = image(stack, "1"), image(stack, "2", created="2030-01-01T00:00:00Z")
    assert prune(stack, until=["2020-01-01T00:00:00+00:00"]) is None
    assert prune(stack, **{"label": ["digit=3"]}) is None
    assert prune(stack, **{"label!": ["digit"]}) is None
    prune(stack, label=["digit=1"])
    assert left(stack) == {BUSYBOX, two}
    assert one not in left(stack)
    with pytest.raises(InvalidArgument, match="invalid filter 'name'"):
        prune(stack, name=["x"])
    with pytest.raises(InvalidArgument, match=r"invalid filter 'dangling=\[perhaps\]'"):
        prune(stack, dangling=["perhaps"])


def ask(stack: Any, platform: str) -> None:
    stack.client.call(CreateContainer(platform=platform, config=ContainerConfig(image="busybox")))


@pytest.mark.parametrize("platform", ["", "linux", "amd64", "linux/amd64", "Linux/x86_64"])
def test_the_platform_of_the_image(stack: Any, platform: str) -> None:
    ask(stack, platform)


@pytest.mark.parametrize("platform", ["linux/arm64", "arm64", "windows", "windows/amd64", "linux/aarch64/v8"])
def test_another_platform_is_no_such_image(stack: Any, platform: str) -> None:
    why = "image with reference busybox was found but does not match the specified platform: wanted "
    with pytest.raises(NotFound, match=why + r"\S+, actual: linux/amd64"):
        ask(stack, platform)


def test_an_image_for_another_machine_is_warned_of(stack: Any) -> None:
    one = image(stack, "1", architecture="s390x")

    def warnings(ref: str, **given: Any) -> list[str] | None:
        made = stack.client.call(CreateContainer(config=ContainerConfig(image=ref), **given))
        return [text for text in made.warnings or [] if "platform" in text]

    (warning,) = warnings(one) or []
    assert warning.startswith(
        "The requested image's platform (linux/s390x) does not match the detected host platform ("
    )
    assert warning.endswith(") and no specific platform was requested")
    assert warnings(one, platform="linux/s390x") == []


@pytest.mark.parametrize(
    ("variant", "wanted", "fits"),
    [
        ("v6", "arm/v7", True),
        ("v7", "arm/v6", False),
        ("", "arm/v6", True),
        ("v7", "arm64", True),
        ("v8", "arm", False),
    ],
)
def test_an_image_for_an_older_arm_serves(stack: Any, variant: str, wanted: str, fits: bool) -> None:
    one = image(stack, "1", architecture="arm", variant=variant)
    try:
        assert stack.client.call(InspectImage(image=one, platform=f"linux/{wanted}")).id == one
        assert fits
    except NotFound:
        assert not fits


@pytest.mark.parametrize("platform", ["foobar", "linux/a/b/c", "linux/", "/amd64", "li nux/amd64"])
def test_what_is_no_platform_is_refused(stack: Any, platform: str) -> None:
    with pytest.raises(InvalidArgument):
        ask(stack, platform)


@pytest.mark.parametrize("ref", ["UPPER", "a b", "-x", "x:ta g"])
def test_what_cannot_be_a_reference_is_not_looked_for(stack: Any, ref: str) -> None:
    """Who gets `not found` pulls; `docker inspect` goes on with networks and volumes after these words."""
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        stack.client.call(InspectImage(image=ref))


@pytest.mark.parametrize("ref", ["nothing", "sha256:" + "1" * 64, "1" * 64, "abcdef"])
def test_what_is_not_there_is_not_found(stack: Any, ref: str) -> None:
    with pytest.raises(NotFound, match=f"No such image: {ref}"):
        stack.client.call(InspectImage(image=ref))


def test_who_collects_by_hand_names_nothing(stack: Any) -> None:
    """The engine says what is to be kept: all that is on record."""
    asked: list[GraphCollect] = []
    stack.world.script["graph_collect"] = lambda job: asked.append(job) or 7
    create(stack)
    one = image(stack, "1", "one:latest")
    assert stack.client.call(CollectGarbage()) == 7
    busybox = {BUSYBOX, *IMAGE.chain_ids, *(layer.digest for layer in IMAGE.layers)}
    assert set(asked[-1].keep_names) == busybox | {one, f"sha256:{'1' * 63}f"}
    assert len(asked[-1].keep_containers) == 1


def test_what_a_running_container_is_of_loses_its_name_by_force_and_stays(stack: Any) -> None:
    one = image(stack, "1", "one:latest")
    made = stack.client.call(CreateContainer(name="web", config=ContainerConfig(image="one"))).id
    stack.client.call(StartContainer(container="web"))
    with pytest.raises(Conflict, match=r"one:latest \(must be forced\) - container .* is using its referenced image"):
        stack.client.call(DeleteImage(image="one"))
    for force in (False, True):
        why = rf"delete {one[7:19]} \(cannot be forced\) - image is being used by running container {made[:12]}"
        with pytest.raises(Conflict, match=why):
            stack.client.call(DeleteImage(image=one, force=force))
    assert stack.client.call(DeleteImage(image="one", force=True)) == [DeletedImage(untagged="one:latest")]
    assert left(stack) == {BUSYBOX, one}
    stack.client.call(KillContainer(container="web"))
    with pytest.raises(Conflict, match=rf"\(must be forced\) - image is being used by stopped container {made[:12]}"):
        stack.client.call(DeleteImage(image=one))


def test_what_is_removed_by_force_stays_for_its_containers_alone(stack: Any) -> None:
    asked: list[GraphCollect] = []
    stack.world.script["graph_collect"] = lambda job: asked.append(job) or 7
    one = image(stack, "1", "one:latest")
    for name in ("web", "other"):
        stack.client.call(CreateContainer(name=name, config=ContainerConfig(image="one")))
    with pytest.raises(Conflict, match=r"must be forced\) - container .* is using its referenced image"):
        stack.client.call(DeleteImage(image="one"))
    gone = stack.client.call(DeleteImage(image="one", force=True))
    assert gone == [DeletedImage(untagged="one:latest"), DeletedImage(deleted=one)]
    assert left(stack) == {BUSYBOX}
    for ref in ("one", one, one[7:19]):
        with pytest.raises(NotFound):
            stack.client.call(InspectImage(image=ref))
    assert one in asked[-1].keep_names
    stack.restart_engine()
    assert left(stack) == {BUSYBOX}
    assert one in asked[-1].keep_names
    assert stack.client.call(InspectContainer(container="web")).image == one
    assert prune(stack, dangling=["false"]) is not None  # busybox
    stack.client.call(RemoveContainer(container="web"))
    assert one in asked[-1].keep_names
    stack.client.call(RemoveContainer(container="other"))
    assert asked[-1].keep_names == []


def test_a_container_is_listed_with_its_image_by_the_name_that_it_has_still(stack: Any) -> None:
    one, digits = image(stack, "1", "one:latest"), "1" * 12
    for name, ref in (("tag", "one"), ("short", digits), ("whole", one), ("other", "busybox")):
        stack.client.call(CreateContainer(name=name, config=ContainerConfig(image=ref)))

    def listed() -> dict[str, str]:
        return {found.names[0]: found.image for found in stack.client.call(ListContainers(all=True))}

    assert listed() == {"/tag": "one", "/short": digits, "/whole": one, "/other": "busybox"}
    image(stack, "2", "one:latest")
    assert listed() == {"/tag": one, "/short": digits, "/whole": one, "/other": "busybox"}
    stack.client.call(DeleteImage(image=one, force=True))
    assert listed() == {"/tag": one, "/short": one, "/whole": one, "/other": "busybox"}


def test_what_was_removed_and_comes_again_is_there(stack: Any) -> None:
    asked: list[GraphCollect] = []
    stack.world.script["graph_collect"] = lambda job: asked.append(job) or 7
    one = image(stack, "1", "one:latest")
    stack.client.call(CreateContainer(name="web", config=ContainerConfig(image="one")))
    stack.client.call(DeleteImage(image="one", force=True))
    assert image(stack, "1", "one:again") == one
    assert left(stack) == {BUSYBOX, one}
    stack.client.call(RemoveContainer(container="web"))
    assert stack.client.call(CollectGarbage()) == 7
    assert one in asked[-1].keep_names
    stack.restart_engine()
    assert left(stack) == {BUSYBOX, one}


def tagged(stack: Any, ref: str) -> str:
    return str(stack.client.call(InspectImage(image=ref)).metadata["LastTagTime"])


def test_what_comes_again_is_what_it_was_made_of_here(stack: Any) -> None:
    until(lambda: any(isinstance(job, GraphCollect) for job in stack.world.calls))  # that of the boot
    asked: list[GraphCollect] = []
    stack.world.script["graph_collect"] = lambda job: asked.append(job) or 0
    parent = image(stack, "1", action="build")
    manifest = Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=f"sha256:{'e' * 64}", size=9)
    image(stack, "2", "two:latest", action="build", parent=parent)
    image(stack, "2", "two:latest", action="pull", manifest=manifest)
    made = image(stack, "2", "two:latest", action="load")
    assert stack.client.call(InspectImage(image=made)).parent == parent
    stack.client.call(CollectGarbage())
    assert manifest.digest in asked[-1].keep_names
    others, collections = [msgspec.structs.replace(manifest, digest=f"sha256:{'d' * 64}")], len(asked)
    image(stack, "2", "two:latest", action="load", layers=others)  # which the manifest does not name
    assert len(asked) == collections + 1
    assert manifest.digest not in asked[-1].keep_names
    stack.client.call(DeleteImage(image=made))
    assert left(stack) == {BUSYBOX}


def test_when_an_image_got_a_name(stack: Any) -> None:
    never = "0001-01-01T00:00:00Z"
    one = image(stack, "1", "one:latest")
    assert tagged(stack, one) == never  # it was loaded
    stack.client.call(TagImage(image=one, repo="two"))
    when = tagged(stack, one)
    assert when.startswith("20")
    image(stack, "1", "three:latest", action="pull")
    stack.restart_engine()
    assert tagged(stack, one) == when
    assert tagged(stack, image(stack, "2", action="import")) == never
    assert tagged(stack, image(stack, "3", "four:latest", action="import")) > when


def test_events_of_images_have_their_labels(stack: Any) -> None:
    one = image(stack, "1", "one:latest")
    stack.client.call(TagImage(image=one, repo="two"))
    stack.client.call(SaveImages(images=["two"]))
    stack.client.call(DeleteImage(image="two"))
    told = [event for event in stack.client.call(ReadEvents()) if event.type == "image" and event.actor.id == one]
    assert [(event.action, event.actor.attributes) for event in told] == [
        ("load", {"digit": "1", "name": "one:latest"}),
        ("tag", {"digit": "1", "name": "two:latest"}),
        ("save", {"digit": "1", "name": one}),
        ("untag", {"digit": "1", "name": one}),
    ]
