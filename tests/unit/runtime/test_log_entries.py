"""The log format: however a log is cut into blocks, a client reads what the container wrote."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.runtime.logs.entries import MAX_LINE, Renderer, head_of, moment
from shared.runtime.logs.reader import read_log
from shared.runtime.logs.selection import Selection

LINE = b"2026-11-24T10:58:11.630985409+00:00 stdout F hello world\n"
BEGIN = 1_795_517_891_000_000_000  # nanoseconds


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        stream, size = struct.unpack(">BxxxL", data[:8])
        found.append((stream, data[8 : 8 + size]))
        assert len(found[-1][1]) == size
        data = data[8 + size :]
    return found


def test_a_line_becomes_a_frame() -> None:
    assert Renderer(Selection()).feed(LINE) == b"\x01\0\0\0\0\0\0\x0chello world\n"
    assert Renderer(Selection(stdout=False)).feed(LINE) == b""
    dressed = Selection(tty=True, timestamps=True, details=True, attributes={"b": "x y", "a": "1"})
    assert Renderer(dressed).feed(LINE) == b"2026-11-24T10:58:11.630985409Z a=1,b=x+y hello world\n"


def test_without_attributes_details_are_a_space() -> None:
    assert frames(Renderer(Selection(details=True)).feed(LINE)) == [(1, b" hello world\n")]


def test_a_time_of_another_zone_is_shown_in_utc() -> None:
    line = LINE.replace(b"+00:00", b"-01:30")
    shown = Renderer(Selection(tty=True, timestamps=True)).feed(line + line)
    assert shown == b"2026-11-24T12:28:11.630985409Z hello world\n" * 2


def test_parts_of_a_line_are_one_frame_with_the_time_of_its_end() -> None:
    log = LINE.replace(b" F ", b" P ") + LINE.replace(b"11.63", b"12.63") + LINE
    shown = frames(Renderer(Selection(timestamps=True)).feed(log))
    assert shown == [
        (1, b"2026-11-24T10:58:12.630985409Z hello worldhello world\n"),
        (1, b"2026-11-24T10:58:11.630985409Z hello world\n"),
    ]


def test_the_end_of_a_long_line_in_a_block_of_its_own_has_no_time_and_the_next_line_has() -> None:
    half = LINE.replace(b" F hello world", b" P " + b"y" * (MAX_LINE // 2))
    renderer = Renderer(Selection(tty=True, timestamps=True))
    shown = renderer.feed(half + half) + renderer.feed(LINE) + renderer.feed(LINE)
    stamp = b"2026-11-24T10:58:11.630985409Z "
    assert shown == stamp + b"y" * MAX_LINE + b"hello world\n" + stamp + b"hello world\n"


def test_what_has_no_newline_is_shown_when_the_container_has_ended() -> None:
    renderer = Renderer(Selection())
    assert renderer.feed(LINE.replace(b" F ", b" P ")) == b""
    assert frames(renderer.finish()) == [(1, b"hello world")]


@given(st.binary(max_size=80))
def test_a_torn_line_is_nothing_or_a_line(data: bytes) -> None:
    head_of(data)
    Renderer(Selection(timestamps=True)).feed(LINE[:35] + data + b"\n")
    Renderer(Selection(since=1, until=BEGIN)).feed(data + b"\n" + LINE)


@pytest.mark.parametrize("length", range(45))
def test_what_comes_after_a_torn_head_is_not_lost(length: int) -> None:
    torn = LINE[:length] + LINE
    assert Renderer(Selection(tty=True)).feed(LINE + torn + LINE) == Renderer(Selection(tty=True)).feed(LINE * 3)


# a container's writes: (stream, data)
WRITES = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.one_of(
            st.binary(min_size=1, max_size=60),
            st.sampled_from([b"line\n", b"\n", b"\0\0\n", b"\xff\xfe\x80\n", b"\r\n", b"2026 stdout F x\n"]),
            st.sampled_from([b"x" * 8191, b"y" * 5000, b"z" * MAX_LINE, b"w" * (MAX_LINE - 1) + b"\n"]),
        ),
    ),
    max_size=30,
)


def written(writes: list[tuple[int, bytes]]) -> bytes:
    """Write the log as conmon does: each read of at most 8191 bytes by itself, one time for all of its lines."""
    log, now = [], BEGIN
    for stream, data in writes:
        for at in range(0, len(data), 8191):
            now += 1_000_000_007
            *lines, rest = data[at : at + 8191].split(b"\n")
            name = (b"stdout", b"stderr")[stream - 1]
            log += [b"%b %b F %b\n" % (moment(now), name, line) for line in lines]
            log += [b"%b %b P %b\n" % (moment(now), name, rest)] if rest else []
    return b"".join(log)


def docker_frames(stream: int, data: bytes) -> list[tuple[int, bytes]]:
    """Return the frames of a stream: lines, those that are too long in pieces."""
    found = []
    for line in data.split(b"\n"):
        rest = line
        while len(rest) > MAX_LINE:
            found.append((stream, rest[:MAX_LINE]))
            rest = rest[MAX_LINE:]
        found.append((stream, rest + b"\n"))
    last = found.pop()[1][:-1]
    return [*found, (stream, last)] if last else found


def merged(pieces: list[tuple[int, bytes]], stream: int) -> list[tuple[int, bytes]]:
    """Return a stream's frames; a line of just the greatest length may have its newline in a frame by itself."""
    found: list[tuple[int, bytes]] = []
    for number, data in pieces:
        if number == stream:
            if data == b"\n" and found and len(found[-1][1]) == MAX_LINE and not found[-1][1].endswith(b"\n"):
                found[-1] = (stream, found[-1][1] + data)
            else:
                found.append((number, data))
    return found


@example([(1, b"z" * MAX_LINE), (1, b"\n")], [])
@given(WRITES, st.lists(st.integers(1, 400), max_size=8))
def test_every_byte_comes_through_however_the_log_is_cut(writes: list[tuple[int, bytes]], cuts: list[int]) -> None:
    log = written(writes)
    lines = log.split(b"\n")[:-1]
    renderer, shown = Renderer(Selection()), b""
    for cut in [*cuts, len(lines)]:
        block, lines = lines[:cut], lines[cut:]
        shown += renderer.feed(b"".join(line + b"\n" for line in block))
    shown += renderer.finish()
    for stream in (1, 2):
        data = b"".join(piece for number, piece in writes if number == stream)
        assert merged(frames(shown), stream) == docker_frames(stream, data)
        only = Renderer(Selection(stdout=stream == 1, stderr=stream == 2))
        assert merged(frames(only.feed(log) + only.finish()), stream) == docker_frames(stream, data)
    assert frames(shown) == frames(one_by_one(log))


def one_by_one(log: bytes, **wanted: int) -> bytes:
    renderer = Renderer(Selection(**wanted))
    return b"".join(renderer.feed(line + b"\n") for line in log.split(b"\n")[:-1]) + renderer.finish()


@given(WRITES, st.integers(0, 12), st.booleans(), st.booleans())
def test_a_tail_is_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bytes]], tail: int, stdout: bool, stderr: bool
) -> None:
    path = tmp_path_factory.mktemp("log") / "container.log"
    path.write_bytes(written([(stream, data + b"\n") for stream, data in writes]))
    everything = lines_of(path, Selection(stdout=stdout, stderr=stderr))
    wanted = Selection(stdout=stdout, stderr=stderr, tail=tail)
    assert lines_of(path, wanted) == (everything[-tail:] if tail else [])


def lines_of(path: Path, selection: Selection) -> list[tuple[int, bytes]]:
    """Return whole lines: the pieces of a long one together."""
    found: list[tuple[int, bytes]] = []
    for stream, data in frames(b"".join(read_log(path, selection, follow=False, ended=lambda: True))):
        if found and not found[-1][1].endswith(b"\n") and found[-1][0] == stream:
            found[-1] = (stream, found[-1][1] + data)
        else:
            found.append((stream, data))
    return found


@given(WRITES, st.integers(0, 40), st.integers(0, 40))
def test_since_and_until_choose_by_the_time_of_a_line(writes: list[tuple[int, bytes]], first: int, last: int) -> None:
    log = written([(stream, data.replace(b"\n", b"")[:50] + b"\n") for stream, data in writes])
    since, until = (BEGIN + n * 1_000_000_007 for n in (first, last))
    shown = frames(Renderer(Selection(since=since, until=until)).feed(log))
    everything = frames(Renderer(Selection()).feed(log))
    assert shown == [frame for n, frame in enumerate(everything, 1) if first <= n <= last]


@given(WRITES, st.integers(0, 40), st.lists(st.integers(1, 9), max_size=8))
def test_what_is_too_early_is_passed_over_whole_or_line_by_line(
    writes: list[tuple[int, bytes]], first: int, cuts: list[int]
) -> None:
    log, since = written(writes), BEGIN + first * 1_000_000_007
    lines = log.split(b"\n")[:-1]
    renderer, shown = Renderer(Selection(since=since)), b""
    for cut in [*cuts, len(lines)]:
        block, lines = lines[:cut], lines[cut:]
        shown += renderer.feed(b"".join(line + b"\n" for line in block))
    assert frames(shown + renderer.finish()) == frames(one_by_one(log, since=since))
