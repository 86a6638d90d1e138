"""The verdict on a foreign suite: nothing fails unnamed, nothing is named that does not fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.dockerpy import FILES, KNOWN
from tests.conformance.verdict import judge, outcomes, read_known

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="suite">
<testcase classname="tests.integration.api_test.RunTest" name="test_good"/>
<testcase classname="tests.integration.api_test.RunTest" name="test_bad"><failure message="no">…</failure></testcase>
<testcase classname="tests.integration.api_test.RunTest" name="test_untidy"/>
<testcase classname="tests.integration.api_test.RunTest" name="test_untidy"><error/></testcase>
<testcase classname="tests.integration.api_test.RunTest" name="test_later"><skipped/></testcase>
<testcase classname="tests.integration.api_test.RunTest" name="test_odd"><skipped type="xfail"/></testcase>
<testcase classname="" name="tests.integration.broken_test"><error/></testcase>
</testsuite></testsuites>
"""
PREFIX = "api_test.py::RunTest::"


@pytest.fixture
def found(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "report.xml").write_text(REPORT)
    return outcomes(tmp_path / "report.xml")


def test_what_a_report_says(found: dict[str, str]) -> None:
    assert found == {
        f"{PREFIX}test_good": "passed",
        f"{PREFIX}test_bad": "failed",
        f"{PREFIX}test_untidy": "failed",
        f"{PREFIX}test_later": "skipped",
        f"{PREFIX}test_odd": "skipped",
        "tests.integration.broken_test": "failed",
    }


def test_a_run_as_the_list_says_is_good(found: dict[str, str]) -> None:
    known = dict.fromkeys([f"{PREFIX}test_bad", f"{PREFIX}test_untidy", "tests.integration.broken_test"], "why")
    assert judge(found, known, ["api_test.py"]).good


def test_a_failure_that_is_not_listed_and_a_listed_one_that_does_not_fail(found: dict[str, str]) -> None:
    known = {
        f"{PREFIX}test_good": "why",
        f"{PREFIX}test_later": "why",
        f"{PREFIX}test_gone": "why",
        "x_test.py::y": "w",
    }
    verdict = judge(found, known, ["api_test.py"])
    assert verdict.failed == [f"{PREFIX}test_bad", f"{PREFIX}test_untidy", "tests.integration.broken_test"]
    assert verdict.mended == [f"{PREFIX}test_good", f"{PREFIX}test_later"]
    assert verdict.missing == [f"{PREFIX}test_gone"]
    assert not verdict.good


def test_the_list_gives_a_reason_for_each_name_once() -> None:
    assert read_known("# head\n\na::b  because\n") == {"a::b": "because"}
    for text in ("a::b\n", "a::b  \n", "a::b  one\na::b  two\n"):
        with pytest.raises(ValueError):
            read_known(text)


def test_the_list_is_of_files_that_are_run() -> None:
    known = read_known(KNOWN.read_text())
    assert known
    assert {name.partition("::")[0] for name in known} <= set(FILES)
