"""What a run of a foreign test suite came to, beside the list of what is known to fail.

The list: one test a line, ``FILE::CLASS::NAME  REASON``; the reason is free text and must be there. Empty lines and
lines that begin with ``#`` are for the reader.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["Verdict", "judge", "outcomes", "read_known"]

FAILED, PASSED, SKIPPED = "failed", "passed", "skipped"


@dataclass(frozen=True)
class Verdict:
    """Names of tests, each list in the order of the report."""

    failed: list[str] = field(default_factory=list)  # and not on the list
    mended: list[str] = field(default_factory=list)  # on the list, and passed or skipped
    missing: list[str] = field(default_factory=list)  # on the list, in a file that ran, and not in the report

    @property
    def good(self) -> bool:
        return not (self.failed or self.mended or self.missing)


def read_known(text: str) -> dict[str, str]:
    """Return reasons by test name. Errors: ValueError (a name without a reason, or twice)."""
    known: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, reason = line.partition("  ")
        if not reason.strip():
            raise ValueError(f"no reason is given: {line}")
        if name in known:
            raise ValueError(f"listed twice: {name}")
        known[name] = reason.strip()
    return known


def outcomes(report: Path) -> dict[str, str]:
    """Return "passed", "failed" or "skipped" by test name, from pytest's JUnit report.

    A test that fails and whose teardown then fails is in the report twice; one failure is enough. An expected failure
    of the suite's own counts as skipped.
    """
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        path = case.get("classname", "").split(".")
        module = next((index for index, part in enumerate(path) if part.endswith("_test")), None)
        # a file that cannot be imported has no class: its own dotted path is the test's name
        name = (
            str(case.get("name"))
            if module is None
            else "::".join([path[module] + ".py", *path[module + 1 :], str(case.get("name"))])
        )
        outcome = _outcome(case)
        if found.get(name) != FAILED:
            found[name] = outcome
    return found


def _outcome(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return FAILED
    return SKIPPED if case.find("skipped") is not None else PASSED


def judge(found: dict[str, str], known: dict[str, str], files: Iterable[str]) -> Verdict:
    """``files``: those that ran; what is listed of others says nothing."""
    ran = {Path(file).name for file in files}
    expected = [name for name in known if name.partition("::")[0] in ran]
    return Verdict(
        failed=[name for name, outcome in found.items() if outcome == FAILED and name not in known],
        mended=[name for name in expected if found.get(name) in {PASSED, SKIPPED}],
        missing=[name for name in expected if name not in found],
    )
