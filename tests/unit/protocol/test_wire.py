from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol import (
    ERRORS,
    MAGIC,
    ContainerStats,
    Data,
    Frame,
    Header,
    InvalidArgument,
    JobNotFound,
    KillContainer,
    Kind,
    catalogue,
    decode_body,
    decode_job,
    encode_body,
    from_code,
    job_name,
    result_type,
)

text = st.text(max_size=40)
headers = st.builds(Header, id=text, name=text, parent=text, status=st.integers(0, 255))


@given(st.sampled_from(list(Kind)), headers, st.binary(max_size=100))
def test_a_frame_survives_the_wire(kind: Kind, header: Header, body: bytes) -> None:
    frame = Frame(kind, header, body)
    assert Frame.parse(frame.parts()) == frame


@given(st.lists(st.binary(max_size=60), max_size=7))
def test_garbage_is_an_invalid_argument_and_nothing_else(parts: list[bytes]) -> None:
    with pytest.raises(InvalidArgument):
        Frame.parse(parts)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_a_garbled_header_is_an_invalid_argument(kind: bytes, header: bytes) -> None:
    try:
        Frame.parse([MAGIC, kind, header, b"null"])
    except InvalidArgument:
        return
    assert kind.decode() in set(Kind)
    msgspec.json.decode(header, type=Header)


@pytest.mark.parametrize(
    "header",
    [
        b'{"status":99999999999999999999}',
        b'{"status":256}',
        b'{"status":-1}',
        b'{"caller":{"service":"x","pid":1,"uid":99999999999999999999}}',
        b'{"caller":{"service":"x","pid":-1}}',
    ],
)
def test_numbers_that_no_kernel_gives_are_refused(header: bytes) -> None:
    with pytest.raises(InvalidArgument, match="Expected `int`"):
        Frame.parse([MAGIC, b"RESULT", header, b"null"])


def is_no_object(body: bytes) -> bool:
    try:
        return not isinstance(json.loads(body), dict)
    except ValueError:
        return True


@given(st.sampled_from(sorted(catalogue())), st.binary(max_size=100).filter(is_no_object))
def test_a_garbled_job_is_an_invalid_argument(name: str, body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_job(name, body)


def test_deep_nesting_is_an_invalid_argument() -> None:
    with pytest.raises(InvalidArgument):
        decode_job("kill", b"[" * 100_000)


def test_an_unknown_job_is_not_found() -> None:
    with pytest.raises(JobNotFound, match="nonesuch: command not found"):
        decode_job("nonesuch", b"{}")


@pytest.mark.parametrize(
    "body",
    [
        b'{"job":"kill"}',
        b'{"job":"kill","container":1}',
        b'{"job":"kill","container":"x","speed":9}',
        b'{"job":"stop","container":"x"}',
        b'{"container":"x"}',
        b'{"job":"kill","container":"x"} trailing',
        b'{"job":"kill","container":"\xff"}',
    ],
)
def test_a_wrong_job_is_refused(body: bytes) -> None:
    if body == b'{"container":"x"}':  # the name in the header is enough
        assert decode_job("kill", body) == KillContainer(container="x")
        return
    with pytest.raises(InvalidArgument):
        decode_job("kill", body)


def test_every_job_says_what_comes_back_and_names_its_arguments() -> None:
    for name, kind in catalogue().items():
        assert job_name(kind) == name
        result_type(kind)
        fields = {field.name for field in msgspec.structs.fields(kind)}
        assert set(kind.ARGS) <= fields, name


def test_errors_keep_their_class_over_the_wire() -> None:
    for code, kind in ERRORS.items():
        error = Frame.failure(Header(id="1"), kind("because")).error()
        assert type(error) is kind
        assert error.message == "because"
        assert type(from_code(code, "x")) is kind


def test_a_result_carries_its_value() -> None:
    frame = Frame.result(Header(id="7", name="ping", parent="dropped"), "OK")
    assert frame == Frame(Kind.RESULT, Header(id="7", name="ping"), encode_body("OK"))


def test_a_value_with_a_member_of_a_later_version_is_read_by_an_earlier_one_unless_it_is_used() -> None:
    """In an upgrade both are there for a moment."""
    earlier = msgspec.defstruct("Value", [("name", str), ("size", int, 0)], bases=(Data,), kw_only=True)
    later = msgspec.defstruct(
        "Value", [("name", str), ("size", int, 0), ("mode", str, "")], bases=(Data,), kw_only=True
    )
    assert decode_body(encode_body(later(name="a")), earlier) == earlier(name="a")
    with pytest.raises(InvalidArgument, match="mode"):
        decode_body(encode_body(later(name="a", mode="fast")), earlier)


def test_what_a_result_shows_to_users_is_whole() -> None:
    assert set(msgspec.to_builtins(ContainerStats())) == set(ContainerStats.__struct_encode_fields__) - {"networks"}
