"""Platforms: how they are written, and which image serves whom."""

from __future__ import annotations

import pytest

from shared.protocol import InvalidArgument
from shared.runtime.platforms import Platform, parse_platform


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("aarch64", Platform("linux", "arm64")),
        ("linux/arm64/v8", Platform("linux", "arm64")),
        ("linux/arm64/8", Platform("linux", "arm64")),
        ("linux/arm/v6", Platform("linux", "arm", "v6")),
        ("armhf", Platform("linux", "arm")),
        ("windows/amd64", Platform("windows", "amd64")),
    ],
)
def test_platforms(text: str, platform: Platform) -> None:
    assert parse_platform(text) == platform


@pytest.mark.parametrize("text", ["/", "linux/", "a/b/c/d", "linux/amd64 ", "linux/ä", "bogus", "1"])
def test_platforms_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid argument"):
        parse_platform(text)


@pytest.mark.parametrize(
    ("wanted", "served"),
    [
        ("linux/amd64", "linux/amd64 linux/386"),
        ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64/v1 linux/386"),
        ("linux/386", "linux/386"),
        ("linux/arm64", "linux/arm64/v8 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm64/v9", "linux/arm64/v9 linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"),
        ("linux/arm/v6", "linux/arm/v6 linux/arm/v5"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_what_runs_on_a_platform_the_best_first(wanted: str, served: str) -> None:
    offered = [parse_platform(text) for text in (served + " windows/amd64 linux/s390x linux/arm/v4").split()]
    ranks = [parse_platform(wanted).rank(one) for one in offered]
    assert ranks == [*range(len(served.split())), None, None, None]


def test_an_arm_runs_what_is_older_and_prefers_the_newest() -> None:
    wanted = parse_platform("linux/arm/v7")
    ranks = [wanted.rank(parse_platform(f"linux/arm/{variant}")) for variant in ("v7", "v6", "v5", "v8")]
    assert ranks == [0, 1, 2, None]
    assert wanted.rank(parse_platform("linux/arm64")) is None
