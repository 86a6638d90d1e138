"""The patterns of .dockerignore."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dockerfile.ignore import Ignore, _States, _tokens, compile_glob, read_patterns
from shared.protocol import InvalidArgument

# pattern, paths that it matches, paths that it does not
TABLE: list[tuple[str, list[str], list[str]]] = [
    ("*", ["a", "a/b", ".x"], []),
    ("a", ["a", "a/b/c"], ["ab", "b/a"]),
    ("/a/", ["a", "a/b"], ["b/a"]),
    ("*.md", ["x.md", ".md"], ["d/x.md", "x.mdx"]),
    ("*/x", ["a/x", "a/x/y"], ["x", "a/b/x"]),
    ("**/x", ["x", "a/x", "a/b/x", "a/x/y"], ["ax", "a/bx"]),
    ("**", ["x", "a/b"], []),
    ("a/**", ["a/b", "a/b/c"], ["b"]),
    ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/bz", "z"]),
    ("**/*.go", ["x.go", "a/b/x.go"], ["x.gone"]),
    ("a**", ["a", "ab", "a/b"], ["b"]),
    ("?", ["a"], ["ab"]),
    ("a?c", ["abc"], ["a/c", "ac"]),
    ("[a-c]x", ["ax", "cx"], ["dx", "-x"]),
    ("[^a-c]x", ["dx"], ["ax"]),
    (r"\*", ["*"], ["a"]),
    (r"a\[b", ["a[b"], ["ab"]),
    ("a.b", ["a.b"], ["axb"]),
    ("./a/../b", ["b"], ["a"]),
    ("a+(b)", ["a+(b)"], ["aab"]),
]


@pytest.mark.parametrize(("pattern", "matches", "others"), TABLE)
def test_table(pattern: str, matches: list[str], others: list[str]) -> None:
    ignore = Ignore(read_patterns(pattern))
    assert [path for path in [*matches, *others] if ignore.excludes(path)] == matches


def test_the_lines_of_the_file() -> None:
    text = "\ufeff# comment\n  a  \n\n\t\n #b\n! c \n/d//e/\n\\#f\n"
    assert read_patterns(text) == ["a", "#b", "!c", "d/e", "\\#f"]


def test_the_last_that_matches_decides() -> None:
    ignore = Ignore(read_patterns("*.md\n!README*.md\nREADME-secret.md"))
    assert [p for p in ("a.md", "README.md", "README-secret.md", "x") if ignore.excludes(p)] == [
        "a.md",
        "README-secret.md",
    ]


def test_an_exception_below_what_is_left_out() -> None:
    ignore = Ignore(read_patterns("d\n!d/keep\nd/keep/not"))
    paths = ["d", "d/x", "d/keep", "d/keep/y", "d/keep/not", "d/keep/not/z"]
    assert [path for path in paths if ignore.excludes(path)] == ["d", "d/x", "d/keep/not", "d/keep/not/z"]


@pytest.mark.parametrize("pattern", ["[", "[]a]", "[a", "[-x]", "[x-]", "[b-a]", "a\\", "[^", "!"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        Ignore(read_patterns(pattern))


def test_a_deep_path_is_looked_at() -> None:
    assert Ignore(read_patterns("a")).excludes("/".join("a" * 5000))


PATHS = st.lists(st.sampled_from(["a", "b", "ab", ".x", "c.md"]), min_size=1, max_size=4).map("/".join)


@given(st.text("ab*?[]^-!/\\.", max_size=12), PATHS)
def test_any_pattern_is_read_or_refused(pattern: str, path: str) -> None:
    try:
        assert Ignore(read_patterns(pattern)).excludes(path) in (True, False)
    except InvalidArgument:
        return


@given(st.text("ab*?", max_size=8).filter(lambda text: "**" not in text), st.text("ab", min_size=1, max_size=6))
def test_within_one_name_it_is_what_shells_do(pattern: str, name: str) -> None:
    assert bool(compile_glob(pattern).fullmatch(name)) == fnmatch.fnmatchcase(name, pattern)


@given(st.lists(st.sampled_from(["a", "*", "**/b", "!a", "!**/ab", "a/b", "*.md"]), max_size=5), PATHS)
def test_a_path_is_left_out_by_the_last_pattern_for_it_or_above(patterns: list[str], path: str) -> None:
    """Against the rule, said once more in the simplest way."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    expected = False
    for pattern in patterns:
        expression = compile_glob(pattern.removeprefix("!"))
        if any(expression.fullmatch(each) for each in above):
            expected = not pattern.startswith("!")
    assert Ignore(patterns).excludes(path) == expected


@given(st.lists(st.sampled_from(["a", "b", "*", "**", "/", "?", "[ab]", "**/", "/**"]), max_size=6).map("".join), PATHS)
def test_both_ways_to_match_say_the_same(pattern: str, path: str) -> None:
    states = _States(list(_tokens(pattern)))
    assert bool(compile_glob(pattern).fullmatch(path)) == states.fullmatch(path)


@pytest.mark.parametrize(
    "pattern", ["*a" * 30 + "b", "**a" * 30 + "b", "**/a/" * 30 + "b", "a*" * 30 + "/" + "*a" * 30]
)
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    assert not compile_glob(pattern).fullmatch("a" * 2000 + "c")
    assert not compile_glob(pattern).fullmatch("a/" * 1000 + "c")
