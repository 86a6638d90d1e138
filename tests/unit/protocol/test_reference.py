from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol import InvalidArgument
from shared.protocol.reference import familiar, normalize, with_tag

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("given_", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("index.docker.io/user/app", "docker.io/user/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:x", "localhost:5000/app:x"),
        ("example.test/a/b/c", "example.test/a/b/c:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest"),
        ("docker.io/a.b/c", "docker.io/a.b/c:latest"),
        ("docker.io/localhost/c", "docker.io/localhost/c:latest"),
    ],
)
def test_references(given_: str, full: str) -> None:
    assert normalize(given_) == full
    assert normalize(familiar(full)) == full


@pytest.mark.parametrize(
    "wrong",
    ["", "Busybox", "a" * 64, "a//b", "a/", "/a", "a:b:c", "a:", "-a", "a/../b", "a\n",
     "host:99999x/a", "host:99999/a", "a" * 300, "a." * 10**6, "busybox@sha256:12", "a b", "é"],
)  # fmt: skip
def test_what_is_no_reference(wrong: str) -> None:
    with pytest.raises(InvalidArgument):
        normalize(wrong)


@given(st.text(max_size=60))
def test_normalize_is_idempotent_or_refuses(text: str) -> None:
    try:
        full = normalize(text)
    except InvalidArgument:
        return
    assert normalize(full) == full
    assert normalize(familiar(full)) == full


@pytest.mark.parametrize(
    ("repo", "tag", "full"),
    [
        ("x", "", "docker.io/library/x:latest"),
        ("x", "1", "docker.io/library/x:1"),
        ("x:y", "z", "docker.io/library/x:z"),
        ("box:5000/a/x", "1", "box:5000/a/x:1"),
        (f"x@sha256:{'a' * 64}", "1", f"docker.io/library/x:1@sha256:{'a' * 64}"),
    ],
)
def test_a_tag_given_beside_the_name_wins(repo: str, tag: str, full: str) -> None:
    assert with_tag(repo, tag) == full


@pytest.mark.parametrize(
    ("repo", "tag", "why"),
    [
        ("x", "a b", "^invalid tag format$"),
        ("x", "-1", "^invalid tag format$"),
        ("x", "a" * 129, "^invalid tag format$"),
        ("X", "1", "must be lowercase"),
        ("", "1", "^invalid reference format$"),
    ],
)
def test_what_is_no_tag(repo: str, tag: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        with_tag(repo, tag)
