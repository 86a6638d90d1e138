"""Search: the v1 search API of an index."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from services.graphdriver.registry.answers import Refused
from services.graphdriver.registry.auth import basic
from services.graphdriver.registry.endpoints import Endpoint
from services.graphdriver.registry.sessions import Registries
from services.graphdriver.registry.transport import Transport, Unreachable, body_of
from shared.protocol import AuthConfig, DockyardError, InvalidArgument, SearchImages, SearchResult

__all__ = ["search"]

DEFAULT_LIMIT, MAX_LIMIT = 25, 100
FILTERS = ("is-automated", "is-official", "stars")


def search(registries: Registries, index: str, job: SearchImages) -> list[SearchResult]:
    """Most stars first. A term that begins with a host is looked for there. Errors: InvalidArgument, Unreachable."""
    if not 0 <= job.limit <= MAX_LIMIT:
        raise InvalidArgument(f"limit {job.limit} is outside the range of [1, {MAX_LIMIT}]")
    wanted = _Wanted(job.filters)
    domain, term = _split(job.term)
    endpoints = registries.endpoints.of(domain) if domain else [Endpoint(index.rstrip("/"))]
    query = urlencode({"q": term.removeprefix("library/") if not domain else term, "n": job.limit or DEFAULT_LIMIT})
    with registries.transport() as transport:
        found = _first(transport, endpoints, f"/v1/search?{query}", job.auth)
    results = [result for result in map(_result, found) if wanted.fits(result)]
    return sorted(results, key=lambda result: -result.star_count)[: job.limit or DEFAULT_LIMIT]


def _split(term: str) -> tuple[str, str]:
    if "://" in term:
        raise InvalidArgument(f"invalid repository name: repository name ({term}) should not have a scheme")
    first, slash, rest = term.partition("/")
    return (first, rest) if slash and (first == "localhost" or "." in first or ":" in first) else ("", term)


def _first(transport: Transport, endpoints: list[Endpoint], path: str, auth: AuthConfig) -> list[Any]:
    failure = Unreachable("nowhere to search")
    for endpoint in endpoints:
        try:
            return _ask(transport, f"{endpoint.url}{path}", auth)
        except Unreachable as error:
            failure = error
    raise failure


def _ask(transport: Transport, url: str, auth: AuthConfig) -> list[Any]:
    answer = transport.request("GET", url, {"Authorization": basic(auth)} if auth.username else {})
    data = body_of(answer, "the index's answer")
    if answer.status != 200:
        raise DockyardError(
            f"unexpected status code {answer.status} from the index: {Refused(answer.status, data).text}"
        )
    try:
        found = json.loads(data)["results"]
        if isinstance(found, list | None):
            return found or []
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InvalidArgument("the index's answer has no list of results")


def _result(given: Any) -> SearchResult:
    given = given if isinstance(given, dict) else {}
    stars = given.get("star_count")
    return SearchResult(
        name=str(given.get("name") or ""),
        description=str(given.get("description") or ""),
        star_count=stars if isinstance(stars, int) else 0,
        is_official=given.get("is_official") is True,
        is_automated=given.get("is_automated") is True,
    )


class _Wanted:
    def __init__(self, filters: dict[str, list[str]]) -> None:
        for name in filters:
            if name not in FILTERS:
                raise InvalidArgument(f"invalid filter '{name}'")
        self._automated = _truth(filters, "is-automated")
        self._official = _truth(filters, "is-official")
        try:
            self._stars = max(map(int, filters.get("stars", [])), default=0)
        except ValueError:
            raise InvalidArgument(f"invalid filter 'stars={filters['stars'][0]}'") from None

    def fits(self, result: SearchResult) -> bool:
        return (
            self._automated in (None, result.is_automated)
            and self._official in (None, result.is_official)
            and result.star_count >= self._stars
        )


def _truth(filters: dict[str, list[str]], name: str) -> bool | None:
    values = filters.get(name, [])
    if any(value not in ("true", "false", "1", "0") for value in values):
        raise InvalidArgument(f"invalid filter '{name}={values[0]}'")
    return values[-1] in ("true", "1") if values else None
