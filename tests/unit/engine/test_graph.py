"""What the engine has the graphdriver keep: all that is on record, whatever that is in bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.graph import Graph, pages
from shared.protocol import COLLECTED_BY, MAX_MESSAGE_SIZE, CollectGarbage, GraphCollect, SetImage, encode_body
from tests.unit.engine.conftest import IMAGE
from tests.unit.engine.doing import create

HEX = "0123456789abcdef"
ids = st.one_of(
    st.text(HEX, min_size=64, max_size=64),
    st.text("01", min_size=64, max_size=64),
    st.text(HEX, min_size=2, max_size=2).map(lambda end: "a" * 62 + end),  # of one beginning
)
asked_for = st.one_of(ids, st.text(HEX, min_size=12, max_size=12), st.text(min_size=1))


def takes(job: GraphCollect, name: str) -> bool:
    """As the graphdriver decides it."""
    return job.begin <= name and (not job.end or name < job.end)


@given(st.sets(ids), st.sets(ids), st.integers(1, 9), st.sets(asked_for))
def test_pages(digests: set[str], containers: set[str], most: int, others: set[str]) -> None:
    """Each name there can be is asked for once; and where one is, or what is called by its beginning, it is kept."""
    names = {f"sha256:{digest}" for digest in digests}
    jobs = pages(names, containers, most)
    for name in digests | containers | others | {""}:
        assert len([job for job in jobs if takes(job, name)]) == 1
    for job in jobs:
        kept = {name.removeprefix("sha256:") for name in job.keep_names}
        called = {short for digest in digests for short in (digest, digest[:COLLECTED_BY])}
        assert {name for name in called if takes(job, name)} <= kept | {name[:COLLECTED_BY] for name in kept}
        assert set(job.keep_containers) == {container for container in containers if takes(job, container)}
    shared = max((sum(n[:12] == key[:12] for n in digests | containers) for key in digests | containers), default=1)
    assert all(len({*job.keep_names, *job.keep_containers}) <= 2 * (most + shared) for job in jobs)


def test_images_whose_records_are_no_message(stack: Any) -> None:
    """A graphdriver that is sent more than 16 MiB loses its connection."""
    history = [{"created_by": "x" * 1000} for _ in range(1000)]
    expected: set[str] = set()
    for number in range(20):
        digest = f"sha256:{number:064x}"
        expected |= {digest, f"sha256:{number:063x}f"}
        chains = [*IMAGE.chain_ids, f"sha256:{number:063x}f"]
        image = msgspec.structs.replace(IMAGE, id=digest, history=history, chain_ids=chains, layer_sizes=[10, 5])
        stack.client.call(SetImage(image=image, tags=[]))
    assert len(encode_body(history)) * 20 > MAX_MESSAGE_SIZE
    asked: list[GraphCollect] = []
    stack.world.script["graph_collect"] = lambda job: asked.append(job) or 7
    assert stack.client.call(CollectGarbage()) == 7
    (job,) = asked
    assert expected <= set(job.keep_names)


def test_more_names_than_a_message_takes(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(encode_body(["sha256:" + "0" * 64] * Graph.names_at_once)) < MAX_MESSAGE_SIZE // 2
    monkeypatch.setattr(Graph, "names_at_once", 2)
    container = create(stack)
    asked: list[GraphCollect] = []
    stack.world.script["graph_collect"] = lambda job: asked.append(job) or 7
    freed = stack.client.call(CollectGarbage())
    assert freed >= 14, "that of more than one page"
    assert freed % 7 == 0
    assert {IMAGE.id, *IMAGE.chain_ids} <= {name for job in asked for name in job.keep_names}
    assert {name for job in asked for name in job.keep_containers} == {container}
