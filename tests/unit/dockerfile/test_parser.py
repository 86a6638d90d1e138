"""A Dockerfile as instructions: golden files, and that nothing but InvalidArgument comes of any text."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dockerfile.instructions import apply_changes
from shared.dockerfile.parser import Dockerfile, parse
from shared.protocol import ContainerConfig, InvalidArgument

GOLDEN = Path(__file__).parent / "golden"
WORDS = [
    "FROM",
    "RUN",
    "COPY",
    "a",
    "\\",
    "`",
    "<<EOF",
    "EOF",
    "# x",
    "# escape=`",
    '"',
    "'",
    "$A",
    "${",
    "}",
    " ",
    "\t",
    "[]",
]


@pytest.mark.parametrize("name", ["all", "windows"])
def test_golden(name: str) -> None:
    parsed = parse((GOLDEN / f"{name}.Dockerfile").read_bytes().decode())
    text = msgspec.json.format(msgspec.json.encode(parsed), indent=1).decode() + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# escape=x\nFROM a", "invalid escape token 'x'"),
        ("# escape=`\n# escape=`\nFROM a", "only one escape parser directive can be used"),
        ("FROM a\nRUN <<EOF\nnever ends", "dockerfile parse error on line 2: unterminated heredoc EOF"),
        ("x" * (5 << 20), "the Dockerfile is longer than"),
    ],
)
def test_what_cannot_be_parsed(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        parse(text)


def test_a_directive_after_a_comment_is_a_comment() -> None:
    assert parse("# hello\n# escape=`\nFROM a\\\nb").instructions[0].text == "ab"


@given(st.lists(st.sampled_from([*WORDS, "\n"]), max_size=40).map("".join) | st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = parse(text)
    except InvalidArgument:
        return
    assert isinstance(parsed, Dockerfile)
    for step in parsed.instructions:
        assert step.name == step.name.lower()
        assert step.name
        assert step.original.lower().startswith(step.name)
        assert 0 < step.line <= text.count("\n") + 1


@given(
    st.lists(
        st.sampled_from([*WORDS, "\n", "ENV ", "LABEL ", "CMD ", "EXPOSE ", "HEALTHCHECK ", "=", "1-2"]), max_size=30
    ).map("".join)
)
def test_any_change_is_applied_or_refused(text: str) -> None:
    config = ContainerConfig(env=["A=1"])
    with contextlib.suppress(InvalidArgument):
        apply_changes(config, [text])
    assert config == ContainerConfig(env=["A=1"])


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_]\w{0,5}", fullmatch=True),
        st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=10),
        min_size=1,
    )
)
def test_what_is_quoted_comes_out_as_it_was(values: dict[str, str]) -> None:
    """Whatever a value is, a user can write it: in double quotes, with a backslash before what has a meaning."""
    quoted = {key: re.sub(r'(["\\$])', r"\\\1", value) for key, value in values.items()}
    written = " ".join(f'{key}="{value}"' for key, value in quoted.items())
    changed = apply_changes(ContainerConfig(), [f"ENV {written}"])
    assert changed.env == [f"{key}={value}" for key, value in values.items()]
