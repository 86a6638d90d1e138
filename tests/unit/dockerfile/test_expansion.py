"""Variables, quotes and escapes of a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dockerfile.expansion import expand
from shared.protocol import InvalidArgument

VARIABLES = {"A": "a", "EMPTY": "", "PATH_": "/usr/local/bin", "F": "foofoo.tar.gz", "DIGIT1": "d"}

# as Docker's documentation and its shell words have them
TABLE = {
    "plain": "plain",
    "$A": "a",
    "${A}b": "ab",
    "$AB$A": "a",
    "$A-$A": "a-a",
    r"\$A": "$A",
    "'$A'": "$A",
    '"$A"': "a",
    r'"\$A \" \x"': r'$A " \x',
    r"a\ b\\": "a b\\",
    "a'b\"c'd": 'ab"cd',
    "${NO:-x}": "x",
    "${EMPTY:-x}": "x",
    "${EMPTY-x}": "",
    "${NO-x}": "x",
    "${A:+x}": "x",
    "${EMPTY:+x}": "",
    "${EMPTY+x}": "x",
    "${NO:-${A}${A}}": "aa",
    "${NO:-a\\}b}": "a}b",
    "${A:?no}": "a",
    "${PATH_#*/}": "usr/local/bin",
    "${PATH_##*/}": "bin",
    "${PATH_%/*}": "/usr/local",
    "${PATH_%%/*}": "",
    "${F/foo/bar}": "barfoo.tar.gz",
    "${F//foo/bar}": "barbar.tar.gz",
    "${F%.tar.*}": "foofoo",
    "${F#x}": "foofoo.tar.gz",
    "$": "$",
    "$/x": "$/x",
    "100%": "100%",
    "$1": "",
    "": "",
}


@pytest.mark.parametrize("text", TABLE)
def test_table(text: str) -> None:
    assert expand(text, VARIABLES) == TABLE[text]


def test_another_escape() -> None:
    assert expand(r"C:\`$A\$A", VARIABLES, "`") == r"C:\$A\a"


def test_a_heredoc_keeps_its_quotes() -> None:
    assert expand("'$A' \"${A}\" \\$A \\n", VARIABLES, raw=True) == "'a' \"a\" $A \\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("'a", "matching single-quote"),
        ('"a', "matching double-quote"),
        ("${", "bad substitution"),
        ("${}", "bad substitution"),
        ("${A", "missing '}'"),
        ("${A:-x", "missing '}'"),
        ("${A^}", r"unsupported modifier \(\^}\)"),
        ("${NO:?is needed}", "NO: is needed"),
        ("${NO?}", "NO: not allowed to be unset"),
        ("${A:-" * 60 + "}" * 60, "nested too deeply"),
    ],
)
def test_what_is_wrong(text: str, why: str) -> None:
    variables = {} if "nested" in why else VARIABLES
    with pytest.raises(InvalidArgument, match=why):
        expand(text, variables)


def test_words_do_not_grow_without_bound() -> None:
    with pytest.raises(InvalidArgument, match="longer than"):
        expand("$A" * 4, {"A": "x" * (1 << 19)})


@given(st.lists(st.sampled_from([*"$${}:-+?#%/*'\"\\`AB ", "EMPTY", "NO"]), max_size=30).map("".join) | st.text())
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        assert isinstance(expand(text, VARIABLES), str)
    except InvalidArgument:
        return


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0'"), max_size=30))
def test_single_quotes_keep_everything(text: str) -> None:
    assert expand(f"'{text}'", VARIABLES) == text
