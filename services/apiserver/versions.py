"""API versions: the ``/v1.NN`` prefix, and the headers that every answer carries (wire-details §1).

A WSGI layer around the application, so that one route table serves all versions, and errors have the headers too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from http import HTTPStatus
from importlib.metadata import version as distribution_version
from typing import Any

import msgspec
from flask import request

from services.apiserver.cors import cors_headers

__all__ = ["COMMON_HEADERS", "MAX_VERSION", "MIN_VERSION", "SERVER", "Versions", "api_version", "error_body"]

MIN_VERSION, MAX_VERSION = (1, 24), (1, 51)
PREFIX = re.compile(r"/v([0-9.]+)(?=/|$)")
KEY = "dockyard.api_version"
LONGEST = 20  # digits and dots
UNTYPED = ("Content-Type", "text/html; charset=utf-8")  # what Flask says of nothing; we have no pages
PHRASES = {status.value: status.phrase for status in HTTPStatus}
SERVER = f"Docker/{distribution_version('dockyard')} (linux)"

StartResponse = Callable[..., Any]


def api_version() -> tuple[int, int]:
    """Return the version of the present request; the newest where it names none."""
    version: tuple[int, int] = request.environ[KEY]
    return version


def text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def parse(given: str) -> tuple[int, int, int]:
    """Return the numbers of a version; those that are not there are 0, and so are those that nobody can mean."""
    numbers = [int(part or 0) for part in f"{given[:LONGEST]}..".split(".")]
    return numbers[0], numbers[1], max(numbers[2:])


def phrased(status: str) -> str:
    """Return a status line with its reason as the standard spells it: clients show it to people, werkzeug shouts it."""
    code = status.partition(" ")[0]
    return f"{code} {PHRASES[int(code)]}" if int(code) in PHRASES else status


class Versions:
    """``origins``: of the web pages that may use the API; with some, OPTIONS is answered here, for any path."""

    def __init__(self, app: Callable[..., Iterable[bytes]], origins: Collection[str] = ()) -> None:
        self._app, self._origins = app, origins

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            ours = [header for header in headers if header != UNTYPED]
            return start_response(phrased(status), ours + COMMON_HEADERS + cors, exc_info)

        cors = cors_headers(self._origins, environ)
        if self._origins and environ["REQUEST_METHOD"] == "OPTIONS":
            start("200 OK", [("Content-Length", "0")])
            return []

        # gunicorn's Response, which can send the head of an answer before there is a body
        environ.setdefault("dockyard.response", getattr(start_response, "__self__", None))
        given = text(MAX_VERSION)
        match = PREFIX.match(environ["PATH_INFO"])
        if match:
            given = match[1]
            environ["PATH_INFO"] = environ["PATH_INFO"][match.end() :] or "/"
        version = parse(given)
        environ[KEY] = version[:2]
        if version < (*MIN_VERSION, 0):
            why = f"client version {given} is too old. Minimum supported API version is {text(MIN_VERSION)}, "
            return _refuse(start, why + "please upgrade your client to a newer version", as_text=True)
        if version > (*MAX_VERSION, 0):
            why = f"client version {given} is too new. Maximum supported API version is {text(MAX_VERSION)}"
            return _refuse(start, why)
        return self._app(environ, start)


COMMON_HEADERS = [("Api-Version", text(MAX_VERSION)), ("Docker-Experimental", "false"), ("Ostype", "linux")]


def error_body(message: str) -> bytes:
    """Return what clients read an error from (wire-details §2)."""
    return msgspec.json.encode({"message": message}) + b"\n"


def _refuse(start: StartResponse, why: str, *, as_text: bool = False) -> Iterable[bytes]:
    """Refuse a version; clients older than 1.24 expect plain text."""
    body = f"{why}\n".encode() if as_text else error_body(why)
    kind = "text/plain; charset=utf-8" if as_text else "application/json"
    start("400 Bad Request", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
