"""CORS: what a browser asks before a page may use the API, and what every answer then says."""

from __future__ import annotations

import threading

import pytest
from werkzeug.test import Client as HttpClient
from werkzeug.wrappers import Response

from services.apiserver.app import create_app
from shared.bus.bus import FakeBus

PAGE, OTHER = "https://ui.example:8443", "https://elsewhere.example"
ALLOWED = "Access-Control-Allow-Origin"


def api(*origins: str, ready: bool = True) -> HttpClient:
    latch = threading.Event()
    if ready:
        latch.set()
    return HttpClient(create_app(FakeBus({}), FakeBus({}), latch, origins), Response)


def test_without_origins_no_header_is_added() -> None:
    answer = api().get("/_ping", headers={"Origin": PAGE})
    assert not [name for name in dict(answer.headers) if name.startswith("Access-Control") or name == "Vary"]


@pytest.mark.parametrize("path", ["/_ping", "/v1.41/_ping", "/nowhere", "/v1.99/_ping", "/v1.2/_ping"])
def test_every_answer_tells_a_page_of_ours_that_it_may(path: str) -> None:
    answer = api(PAGE).get(path, headers={"Origin": PAGE})
    assert (answer.headers[ALLOWED], answer.headers["Vary"]) == (PAGE, "Origin")


def test_a_page_of_somebody_else_gets_no_permission() -> None:
    for headers in ({"Origin": OTHER}, {"Origin": "null"}, {}):
        answer = api(PAGE).get("/_ping", headers=headers)
        assert answer.status_code == 200
        assert ALLOWED not in answer.headers
        assert answer.headers["Vary"] == "Origin"


def test_any_is_any() -> None:
    answer = api("*").get("/_ping", headers={"Origin": OTHER})
    assert answer.headers[ALLOWED] == "*"
    assert "Vary" not in answer.headers


@pytest.mark.parametrize("path", ["/_ping", "/v1.41/containers/create", "/nowhere"])
def test_the_question_beforehand_is_answered_for_every_path_even_during_the_boot(path: str) -> None:
    answer = api(PAGE, ready=False).options(path, headers={"Origin": PAGE, "Access-Control-Request-Method": "DELETE"})
    assert (answer.status_code, answer.data, answer.headers[ALLOWED]) == (200, b"", PAGE)
    assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
    assert "X-Registry-Auth" in answer.headers["Access-Control-Allow-Headers"]
