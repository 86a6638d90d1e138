"""How instructions are read: stages, arguments, flags, mounts; and caches that builds share."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from services.builder.arguments import Arguments, StageArguments, platform_arguments
from services.builder.caches import Caches
from services.builder.flags import Flag, options, take_flags
from services.builder.git import is_git
from services.builder.mounts import parse_mount
from services.builder.stages import read_stages, upto
from shared.bus.context import Context, current
from shared.dockerfile.parser import parse
from shared.protocol import Cancelled, Header, InvalidArgument, NotImplementedByUs


def arguments(**given: str | None) -> Arguments:
    return Arguments(dict(given), platform_arguments("linux/amd64"))


def test_stages() -> None:
    given = arguments(TAG="2")
    lines = ["ARG TAG=1", "ARG IMAGE=image:${TAG}", "FROM $IMAGE AS One", "RUN x",
             "FROM --platform=linux/$TARGETARCH one", "FROM scratch as three", "CMD y"]  # fmt: skip
    text = "\n".join(lines)
    stages = read_stages(parse(text), given)
    assert [(s.base, s.name, s.platform, len(s.instructions)) for s in stages] == [
        ("image:2", "one", "", 1), ("one", "", "linux/amd64", 0), ("scratch", "three", "", 1),
    ]  # fmt: skip
    assert [len(upto(stages, target)) for target in ("", "ONE", "1", "three", "2")] == [3, 1, 2, 3, 3]
    with pytest.raises(InvalidArgument, match="failed to reach build target four in Dockerfile"):
        upto(stages, "four")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "file with no instructions"),
        ("ARG A=1", "no build stage in current context"),
        ("RUN x", "line 1: no build stage in current context"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1x", "invalid name for build stage"),
        ("FROM $NONE", "should not be blank"),
        ("FROM a\nRUN", "line 2: RUN requires at least one argument"),
        ("FROM --what=x a", "unknown flag: --what"),
        ("FROM a\nCOPY --wrong=1 a /", "line 2: unknown flag: --wrong"),
        ("FROM a\nCOPY a", "line 2: COPY requires at least two arguments, but only one was provided. Destination"),
        ('FROM a\nADD ["a"]', "line 2: ADD requires at least two arguments"),
        ("FROM a\nRUN --user=x y", "line 2: unknown flag: --user"),
        ("FROM a\nRUN --network=none", "line 2: RUN requires at least one argument"),
        ("FROM a\nRUN --network=some x", 'line 2: unsupported network mode "some"'),
        ("FROM a\nRUN --mount=type=what x", 'line 2: unsupported mount type "what"'),
        ("FROM a\nENV --x=1", "line 2: unknown flag: --x=1"),
        ("FROM a\nENV A", "line 2: ENV must have two arguments"),
        ("FROM a\nENV =1", "line 2: ENV names can not be blank"),
        ("FROM a\nLABEL a=1 b", "line 2: Syntax error - can't find = in 'b'"),
        ("FROM a\nARG =1", "line 2: ARG names can not be blank"),
        ("FROM a\nSHELL sh", "line 2: SHELL requires the arguments to be in JSON form"),
        ("FROM a\nVOLUME []", "line 2: VOLUME requires at least one argument"),
        ('FROM a\nVOLUME ["/a", ""]', "line 2: VOLUME specified can not be an empty string"),
        ("FROM a\nONBUILD ONBUILD RUN x", "line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nHEALTHCHECK --wrong=1 CMD x", "line 2: unknown flag: --wrong"),
        ("FROM a\nHEALTHCHECK --retries=x CMD x", 'line 2: invalid value "x" for --retries'),
        ("FROM a\nHEALTHCHECK --interval=1ns CMD x", 'line 2: Interval "interval" cannot be less than 1ms'),
        ("FROM a\nHEALTHCHECK --interval 1s CMD x", "line 2: missing a value on flag: --interval"),
        ("FROM a\nHEALTHCHECK --interval=1s", "line 2: HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK NONE x", "line 2: HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CMD", "line 2: Missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK CMD []", "line 2: Missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK cmd2 x", 'line 2: Unknown type "CMD2" in HEALTHCHECK'),
    ],
)
def test_what_is_no_dockerfile(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        read_stages(parse(text), arguments())


def test_what_can_only_be_said_when_it_is_done_is_not_said_before() -> None:
    lines = ["FROM a", "RUN --mount=$M --network=$N x", "RUN --mount=type=ssh x", "USER $A", "EXPOSE $P", "ENV\ta\tb c",
             "HEALTHCHECK\tCMD\tx", "STOPSIGNAL $S", "COPY --chmod=$M $FROM $TO", "WORKDIR $W", "CMD []"]  # fmt: skip
    (stage,) = read_stages(parse("\n".join(lines)), arguments())
    assert len(stage.instructions) == len(lines) - 1


def test_the_scopes_of_arguments() -> None:
    given = arguments(OWN="given", HTTP_PROXY="p", ODD="x", BARE=None)
    given.declare_global("GLOBAL", "g")
    stage = StageArguments(given)
    assert stage.of_run({}) == ({"HTTP_PROXY": "p"}, {})
    for name, default in (("GLOBAL", None), ("OWN", "default"), ("NONE", None), ("TARGETARCH", None), ("BARE", "b")):
        stage.declare(name, default)
    told = {"GLOBAL": "g", "OWN": "given", "TARGETARCH": "amd64", "BARE": "b"}
    assert stage.of_run({}) == ({"HTTP_PROXY": "p", **told}, told)
    assert "OWN" not in stage.of_run({"OWN": "env"})[0]  # ENV wins
    stage.declare("HTTP_PROXY", None)
    assert stage.of_run({})[1]["HTTP_PROXY"] == "p"  # one that is declared is told of
    assert StageArguments(given).declared == {}
    assert given.unconsumed() == ["ODD"]


def test_the_arguments_of_platforms() -> None:
    host, other = platform_arguments(), platform_arguments("linux/arm")
    assert host["TARGETPLATFORM"] == host["BUILDPLATFORM"] == other["BUILDPLATFORM"]
    names = ("TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT")
    assert [other[name] for name in names] == ["linux/arm/v7", "linux", "arm", "v7"]
    assert platform_arguments("arm64")["TARGETPLATFORM"] == "linux/arm64"


def test_flags() -> None:
    flags, rest = take_flags('--mount=type=cache,target="/a b" --x --from=a  cmd --not=flag')
    assert flags == [Flag("mount", 'type=cache,target="/a b"'), Flag("x"), Flag("from", "a")]
    assert rest == "cmd --not=flag"
    assert take_flags("-- --a") == ([], "--a")
    assert options('a=1,"b=x,y",c') == [("a", "1"), ("b", "x,y"), ("c", None)]
    with pytest.raises(InvalidArgument, match="unknown flag: --A=1"):
        take_flags("--A=1 x")


def test_mounts() -> None:
    cache = parse_mount("type=cache,dst=sub,sharing=locked,mode=0700,uid=3", "/work")
    assert (cache.target, cache.id, cache.sharing, cache.mode, cache.uid, cache.read_only) == (
        "/work/sub", "/work/sub", "locked", 0o700, 3, False,
    )  # fmt: skip
    assert parse_mount("target=/x,src=y", "/").read_only
    assert not parse_mount("target=/x,rw", "/").read_only
    secret = parse_mount("type=secret,id=a/b", "/")
    assert (secret.target, secret.mode, secret.required) == ("/run/secrets/b", 0o400, False)
    assert parse_mount("type=tmpfs,target=/t,size=2m", "/").size == 2 << 20


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("type=bind", "target is required"),
        ("type=what,target=/x", 'unsupported mount type "what"'),
        ("type=cache,target=/", "invalid mount target '/'"),
        ("type=cache,target=/x,sharing=no", 'unsupported sharing value "no"'),
        ("type=tmpfs,target=/x,size=big", "invalid value big for size"),
        ("type=tmpfs,target=/x,from=y", "unexpected key 'from'"),
        ("type=secret", "an id or a target is needed"),
        ("type=cache,target=/x,mode=9", "invalid value 9 for mode"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ('"', "failed to parse csv"),
    ],
)
def test_what_is_no_mount(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        parse_mount(text, "/")


def test_ssh_is_refused() -> None:
    with pytest.raises(NotImplementedByUs, match="type=ssh is not supported"):
        parse_mount("type=ssh", "/")


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://host/a.git", True), ("http://host/a.git#ref:dir", True), ("git://host/a", True),
        ("github.com/a/b", True), ("git@host:a/b", True), ("https://host/a.tar.gz", False),
        ("https://host/a.git/x", False), ("ext::sh -c x", False),
    ],
)  # fmt: skip
def test_what_is_a_repository(remote: str, expected: bool) -> None:
    assert is_git(remote) is expected


# -- caches


def test_a_cache_is_there_again(tmp_path: Path) -> None:
    caches = Caches(tmp_path)
    with caches.used("id", "shared", 0o750, (0, 0)) as (path, new):
        assert new
        (path / "f").write_text("x" * 100)
        assert path.stat().st_mode & 0o7777 == 0o750
        assert caches.shown()[0].in_use
        assert caches.prune({}).caches_deleted == []  # it is in use
    with Caches(tmp_path).used("id", "shared", 0o777, (0, 0)) as (path, new):
        assert not new
        assert (path / "f").exists()
    (shown,) = caches.shown()
    assert (shown.size, shown.usage_count, shown.in_use) == (100, 2, False)
    assert caches.prune({"until": ["1h"]}).caches_deleted == []
    assert caches.prune({}, keep_storage=100).caches_deleted == []
    for name, value in (("id", "none"), ("type", "regular"), ("inuse", "1"), ("private", "false"), ("label", "a")):
        assert caches.prune({name: [value], "shared": ["false"], "label!": ["a"]}).caches_deleted == [], name
    with pytest.raises(InvalidArgument, match="invalid value for shared: maybe"):
        caches.prune({"shared": ["maybe"]})
    pruned = caches.prune({"id": [shown.id[:6], "none"], "type": ["exec.cachemount"], "label!": ["a"]})
    assert (pruned.caches_deleted, pruned.space_reclaimed) == ([shown.id], 100)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidArgument, match="invalid filter 'what'"):
        caches.prune({"what": ["x"]})


def test_hard_links_in_a_cache_are_counted_once(tmp_path: Path) -> None:
    caches = Caches(tmp_path)
    with caches.used("id", "shared", 0o777, (0, 0)) as (path, _):
        (path / "file").write_bytes(bytes(1000))
        (path / "sub").mkdir()
        (path / "sub/link").hardlink_to(path / "file")
        (path / "other").write_bytes(bytes(10))
    assert [cache.size for cache in caches.shown()] == [1010]


def test_how_a_cache_is_shared(tmp_path: Path) -> None:
    caches = Caches(tmp_path)
    with caches.used("id", "shared", 0o755, (0, 0)) as (one, _):
        with caches.used("id", "shared", 0o755, (0, 0)) as (two, _):
            assert one == two
        with caches.used("id", "private", 0o755, (0, 0)) as (other, new):
            assert (other != one, new) == (True, True)
        cancelled = threading.Event()
        cancelled.set()
        token = current.set(Context(Header(), lambda output: None, cancelled=cancelled))
        try:
            with pytest.raises(Cancelled), caches.used("id", "locked", 0o755, (0, 0)):
                pass  # it waits for the others until it is cancelled
        finally:
            current.reset(token)
    with caches.used("id", "private", 0o755, (0, 0)) as (again, _):
        assert again == one
