"""docker search: at a host that the term names."""

from __future__ import annotations

import json

from tests.integration.conftest import Stack
from tests.registries import Answer, Scripted

RESULTS = [
    {"name": "box", "description": "of things", "star_count": 7, "is_official": True},
    {"name": "crate", "description": "", "star_count": 90, "is_official": False},
    {"name": "case", "description": "empty", "star_count": 0},
]


def serve(served: Scripted) -> None:
    served.files["/v1/search"] = Answer(body=json.dumps({"results": RESULTS}).encode())


def found(stack: Stack, served: Scripted, *options: str) -> list[str]:
    row = "{{.Name}}|{{.Description}}|{{.StarCount}}|{{.IsOfficial}}"
    return stack.out("search", "--format", row, *options, f"{served.host}/box").splitlines()


def test_what_has_most_stars_comes_first(clean: Stack, served: Scripted) -> None:
    serve(served)
    assert found(clean, served) == ["crate||90|", "box|of things|7|[OK]", "case|empty|0|"]
    assert [row.split("|")[0] for row in found(clean, served, "--limit", "2")] == ["crate", "box"]
    assert "q=box&n=2" in served.asked("/v1/search")[-1].path


def test_filters(clean: Stack, served: Scripted) -> None:
    serve(served)
    assert [row.split("|")[0] for row in found(clean, served, "--filter", "is-official=true")] == ["box"]
    assert [row.split("|")[0] for row in found(clean, served, "--filter", "stars=8")] == ["crate"]
    wrong = clean.docker("search", "--filter", "colour=red", f"{served.host}/box", check=False)
    assert (wrong.returncode, wrong.stderr) == (1, "Error response from daemon: invalid filter 'colour'\n")


def test_a_limit_that_is_too_large_and_an_index_that_fails(clean: Stack, served: Scripted) -> None:
    refused = clean.docker("search", "--limit", "101", f"{served.host}/box", check=False)
    assert "limit 101 is outside the range of [1, 100]" in refused.stderr
    served.files["/v1/search"] = Answer(500, b"broken")
    failed = clean.docker("search", f"{served.host}/box", check=False)
    assert failed.returncode == 1
    assert "unexpected status code 500" in failed.stderr
