"""Client: one repository at one endpoint, in the verbs of the distribution specification 1.1.

Errors of all methods: Refused (the registry says no), Unauthorized, Unreachable, InvalidArgument (an answer that is
none).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO
from urllib.parse import urljoin, urlsplit

import urllib3

from services.graphdriver.blobs import digest_of, is_digest
from services.graphdriver.registry.answers import Refused
from services.graphdriver.registry.auth import Authorizer, NoCredentials
from services.graphdriver.registry.transport import MAX_DOCUMENT, Body, Transport, body_of, origin
from shared.protocol import InvalidArgument

__all__ = ["Document", "Repository"]

MAX_ERROR = 64 << 10  # bytes of an error's body that are looked at
MAX_PAGES, MAX_TAGS = 1000, 100_000
NEXT_PAGE = re.compile(r'<([^>]*)>\s*;.*\brel="?next"?', re.IGNORECASE)
ARRIVED = re.compile(r"(?:bytes=)?0-([1-9][0-9]{0,18})")  # 0-0 is nothing (and one byte too)
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


@dataclass(frozen=True)
class Document:
    """A manifest or an index as the registry sent it; ``digest`` is that of ``data``."""

    media_type: str
    data: bytes
    digest: str


class Repository:
    """``scopes`` are those that a token is asked for."""

    def __init__(
        self, transport: Transport, authorizer: Authorizer, url: str, path: str, *, push: bool = False
    ) -> None:
        self.url, self.path = url, path
        self._transport, self._authorizer = transport, authorizer
        self._scopes = [f"repository:{path}:{'pull,push' if push else 'pull'}"] if path else []

    def ping(self) -> None:
        """Ask whether the registry is there and lets us in."""
        self._whole("GET", "/v2/")

    # -- manifests

    def manifest(self, wanted: str) -> Document:
        """Fetch a manifest or an index by tag or digest; by digest it is what the digest says."""
        answer = self._request("GET", f"/v2/{self.path}/manifests/{wanted}", {"Accept": ", ".join(MANIFESTS)})
        data = body_of(answer, "the manifest")
        found = digest_of(data)
        if is_digest(wanted) and found != wanted:
            raise InvalidArgument(f"manifest verification failed for digest {wanted}: it is {found}")
        claimed = answer.headers.get("Docker-Content-Digest", found)
        if is_digest(claimed) and claimed != found:
            raise InvalidArgument(f"manifest verification failed for digest {claimed}: it is {found}")
        return Document(answer.headers.get("Content-Type", "").partition(";")[0].strip().lower(), data, found)

    def put_manifest(self, wanted: str, media_type: str, data: bytes) -> None:
        self._whole("PUT", f"/v2/{self.path}/manifests/{wanted}", {"Content-Type": media_type}, data)

    def tags(self) -> Iterator[str]:
        path, seen = f"/v2/{self.path}/tags/list", 0
        for _ in range(MAX_PAGES):
            answer, data = self._whole("GET", path)
            try:
                tags = json.loads(data)["tags"] or []
                yield from map(str, tags)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise InvalidArgument("the registry's list of tags cannot be read") from None
            seen += len(tags)
            following = NEXT_PAGE.search(answer.headers.get("Link", ""))
            if following is None:
                return
            if seen > MAX_TAGS:
                break
            path = self._here(following[1])
        raise InvalidArgument(f"the registry lists more than {MAX_TAGS} tags")

    def _here(self, location: str) -> str:
        """Return an URL of this registry as a path. Errors: InvalidArgument (it is another's)."""
        url = urljoin(f"{self.url}/v2/", location)
        if origin(url) != origin(self.url):
            raise InvalidArgument(f"the registry sends its list of tags elsewhere: {location[:200]}")
        parts = urlsplit(url)
        return f"{parts.path}?{parts.query}"

    # -- blobs

    def blob(self, digest: str, offset: int = 0) -> urllib3.BaseHTTPResponse:
        """Begin to fetch a blob at ``offset``; the answer is 206, or 200 from a registry that knows no ranges."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        return self._request("GET", f"/v2/{self.path}/blobs/{digest}", headers)

    def read_blob(self, digest: str, limit: int = MAX_DOCUMENT) -> bytes:
        """Fetch a small blob whole, and verify it."""
        data = body_of(self.blob(digest), f"blob {digest}", limit)
        if (found := digest_of(data)) != digest:
            raise InvalidArgument(f"blob {digest} does not match its digest: {found}")
        return data

    def has_blob(self, digest: str) -> bool:
        try:
            self._whole("HEAD", f"/v2/{self.path}/blobs/{digest}")
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    def begin_upload(self, mount: str = "", source: str = "") -> str:
        """Begin to send a blob; returns where to, or nothing if it was mounted from repository ``source``."""
        query = f"?mount={mount}&from={source}" if mount else ""
        scopes = [*self._scopes, f"repository:{source}:pull"] if mount else self._scopes
        answer, _ = self._whole(
            "POST", f"/v2/{self.path}/blobs/uploads/{query}", {"Content-Length": "0"}, scopes=scopes
        )
        return "" if mount and answer.status == 201 else self._location(answer)

    def upload(self, location: str, source: IO[bytes], offset: int, size: int) -> str:
        """Send ``source``'s bytes from ``offset`` to its end at ``size``; returns where to go on."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - offset)}
        if offset:
            headers["Content-Range"] = f"{offset}-{size - 1}"
        source.seek(offset)
        answer, _ = self._whole("PATCH", location, headers, source)
        return self._location(answer)

    def uploaded(self, location: str) -> tuple[int, str]:
        """Ask how many bytes of an upload have arrived; returns where to go on too."""
        answer, _ = self._whole("GET", location)
        found = ARRIVED.fullmatch(answer.headers.get("Range", ""))
        count = int(found[1]) + 1 if found is not None else 0
        return count, self._location(answer, location)

    def finish_upload(self, location: str, digest: str) -> None:
        separator = "&" if urlsplit(location).query else "?"
        self._whole("PUT", f"{location}{separator}digest={digest}", {"Content-Length": "0"})

    def cancel_upload(self, location: str) -> None:
        self._whole("DELETE", location)

    def _location(self, answer: urllib3.BaseHTTPResponse, default: str = "") -> str:
        location = answer.headers.get("Location", default)
        if not location:
            raise InvalidArgument("the registry does not say where to upload to")
        location = urljoin(f"{self.url}/v2/", location)
        self._transport.check_downgrade(self.url, location)
        return location

    # -- requests

    def _whole(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: Body = None,
        scopes: Sequence[str] | None = None,
    ) -> tuple[urllib3.BaseHTTPResponse, bytes]:  # fmt: skip
        answer = self._request(method, path, headers, body, scopes)
        return answer, body_of(answer, "the registry's answer")

    def _request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: Body = None,
        scopes: Sequence[str] | None = None,
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        """Ask with what is known to be right, and a second time as the registry's challenge wants it."""
        url, scopes = urljoin(self.url, path), self._scopes if scopes is None else scopes
        is_ours = origin(url) == origin(self.url)
        given = self._authorizer.headers(scopes) if is_ours else {}
        answer = self._transport.request(method, url, {**(headers or {}), **given}, body)
        if answer.status == 401 and is_ours:
            answer = self._again(answer, method, url, headers or {}, body, scopes, given)
        if answer.status >= 300:
            raise self._refusal(answer, url)
        return answer

    def _again(
        self, answer: urllib3.BaseHTTPResponse, method: str, url: str, headers: dict[str, str], body: Body,
        scopes: Sequence[str], given: dict[str, str],
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        challenge = ", ".join(answer.headers.getlist("WWW-Authenticate"))
        refusal = self._refusal(answer, url)
        if not challenge:
            raise refusal
        try:
            given = self._authorizer.answer(url, challenge, scopes, given)
        except NoCredentials as error:
            refusal.error_code, refusal.text = "NO_CREDENTIALS", error.message
            raise refusal from error
        if body is not None and not isinstance(body, bytes):
            raise refusal  # a stream that was read; what is sent is begun again where it ended
        second = self._transport.request(method, url, {**headers, **given}, body)
        if second.status == 401 and "Bearer" in given.get("Authorization", ""):
            denied = self._refusal(second, url)
            denied.error_code = "DENIED"
            denied.text = "denied: requested access to the resource is denied"
            raise denied
        return second

    def _refusal(self, answer: urllib3.BaseHTTPResponse, url: str) -> Refused:
        try:
            return Refused(answer.status, body_of(answer, "the registry's answer", MAX_ERROR), url)
        except InvalidArgument:
            return Refused(answer.status, b"", url)
