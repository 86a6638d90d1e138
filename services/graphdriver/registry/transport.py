"""Transport: HTTP requests to registries: TLS, certs.d, proxies, redirects; and errors that say what is wrong.

| in CERTS_DIR/HOST[:PORT]/ | meaning                                                    |
|---------------------------|------------------------------------------------------------|
| ``*.crt``                 | a CA that vouches for the registry, beside those of the host |
| ``*.cert`` with ``*.key`` | what is shown to a registry that wants a client certificate |
"""

from __future__ import annotations

import re
import ssl
import threading
import warnings
from collections.abc import Callable, Mapping
from http import client
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3 import exceptions as http

from services.graphdriver.registry.proxies import Proxies
from shared.bus.context import check_cancelled
from shared.protocol import DockyardError, InvalidArgument

__all__ = ["MAX_DOCUMENT", "TRANSPORT_ERRORS", "Transport", "Unreachable", "body_of", "explain", "origin"]

USER_AGENT = "dockyard"
CONNECT_TIMEOUT, READ_TIMEOUT = 15.0, 60.0  # seconds; the second between two pieces
MAX_REDIRECTS = 5
BLOCK = 1 << 18  # bytes that are sent at a time
REDIRECTS = (301, 302, 303, 307, 308)
MAX_DOCUMENT = 4 << 20  # bytes of a manifest, or whatever else is held in memory
TRANSPORT_ERRORS = (http.HTTPError, OSError)
# who names a registry in insecure-registries knows
warnings.filterwarnings("ignore", category=http.InsecureRequestWarning)
Body = bytes | Any | None
PLACE = re.compile(r" \(_ssl\.c:\d+\)$")  # in Python, at the end of a text
UNKNOWN = "certificate signed by unknown authority"
VERIFY_WORDS = {  # X509_V_ERR_… of openssl/x509_vfy.h, in the words that users of registries look for
    9: "certificate has expired or is not yet valid",
    10: "certificate has expired or is not yet valid",
    **dict.fromkeys((2, 18, 19, 20, 21), UNKNOWN),
}


class Unreachable(DockyardError):
    """There was no HTTP answer: the name has no address, nobody listens, TLS failed (``in_tls``: by what it says).

    Not Unavailable, as which a part of ours would be away: to clients it is 500, as dockerd has it.
    """

    in_tls = False


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port. Errors: InvalidArgument (not an http URL)."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        raise InvalidArgument(f"the registry names an invalid URL: {url[:200]!r}") from None
    if not parts.hostname:
        raise InvalidArgument(f"the registry names an invalid URL: {url[:200]!r}")
    return parts.scheme, parts.hostname, port


class Transport:
    """One job's connections; threads may share it. ``is_insecure`` says which host[:port] needs no certificate."""

    def __init__(self, certificates: Path, proxies: Proxies, is_insecure: Callable[[str], bool]) -> None:
        self._certificates, self._proxies, self._is_insecure = certificates, proxies, is_insecure
        self._pools: dict[tuple[str, str | None], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()

    def request(self, method: str, url: str, headers: Mapping[str, str], body: Body = None) -> urllib3.BaseHTTPResponse:
        """Return an answer whose body is not read yet. Redirects of GET and HEAD are followed, without credentials.

        Errors: Unreachable, InvalidArgument (where a redirect leads), DockyardError (certs.d).
        """
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._once(method, url, sent, body)
            if answer.status not in REDIRECTS or method not in ("GET", "HEAD") or "Location" not in answer.headers:
                return answer
            following = urljoin(url, answer.headers["Location"])
            answer.drain_conn()
            answer.release_conn()
            self.check_downgrade(url, following)
            if origin(url) != origin(following):
                sent.pop("Authorization", None)
            url = following
        raise InvalidArgument(f"the registry redirects more than {MAX_REDIRECTS} times: {url[:200]}")

    def check_downgrade(self, url: str, following: str) -> None:
        """Refuse (InvalidArgument) to be led from TLS to a plain connection."""
        before, after = origin(url), origin(following)
        if before[0] == "https" and after[0] == "http" and not self._is_insecure(urlsplit(following).netloc):
            raise InvalidArgument(f"the registry leads from https to http: {following[:200]}")

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> urllib3.BaseHTTPResponse:
        origin(url)
        pool = self._pool(urlsplit(url).netloc.rpartition("@")[2], self._proxies.of(url))
        try:
            return pool.urlopen(
                method, url, headers=dict(headers), body=body, redirect=False, retries=False, preload_content=False,
                decode_content=False,
            )  # fmt: skip
        except TRANSPORT_ERRORS as error:
            failure = Unreachable(f'{method.capitalize()} "{url}": {explain(error)}')
            failure.in_tls = isinstance(error, http.SSLError) and not (_is_plain(error) or _is_end(error))
            raise failure from error
        except ValueError as error:
            raise InvalidArgument(f'{method.capitalize()} "{url}": {error}') from error

    def _pool(self, netloc: str, proxy: str | None) -> urllib3.PoolManager:
        with self._lock:
            pool = self._pools.get((netloc, proxy))
            if pool is None:
                options: dict[str, Any] = {
                    "ssl_context": self._tls(netloc),
                    "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
                    "maxsize": 8,
                    "blocksize": BLOCK,
                }
                pool = _proxied(proxy, options) if proxy else urllib3.PoolManager(**options)
                self._pools[netloc, proxy] = pool
            return pool

    def _tls(self, netloc: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python 3.13's default, which certificates of own CAs fail
        directory = self._certificates / netloc
        try:
            path = directory
            for path in sorted(directory.glob("*.crt")):
                context.load_verify_locations(path)
            for path in sorted(directory.glob("*.cert")):
                key = path.with_suffix(".key")
                if not key.exists():
                    raise DockyardError(
                        f"missing key {key.name} for client certificate {path.name}. CA certificates must use the "
                        "extension .crt"
                    )
                context.load_cert_chain(path, key)
        except (OSError, ssl.SSLError) as error:
            raise DockyardError(f"{path}: {_tls_reason(error)}") from error
        if self._is_insecure(netloc):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _proxied(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    try:
        credentials = urlsplit(proxy)._replace(path="", query="", fragment="")
        headers = None
        if credentials.username:
            headers = urllib3.make_headers(proxy_basic_auth=f"{credentials.username}:{credentials.password or ''}")
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
    except (http.HTTPError, ValueError) as error:
        raise Unreachable(f"proxy {proxy!r}: {error}") from error


def explain(error: BaseException) -> str:
    """Say why there was no answer, in the words that users of registries know."""
    if isinstance(error, http.ProxyError):
        return f"proxyconnect: {explain(error.original_error)}"
    if isinstance(error, http.NameResolutionError):
        return f"dial tcp: lookup {getattr(error.conn, 'host', '')}: no such host"
    if isinstance(error, http.NewConnectionError):
        reason = error.__cause__ or error.__context__
        if isinstance(reason, ConnectionRefusedError):
            where = f"{getattr(error.conn, 'host', '')}:{getattr(error.conn, 'port', '')}"
            return f"dial tcp {where}: connect: connection refused"
        return f"dial tcp: {reason or error}"
    if isinstance(error, http.ConnectTimeoutError):
        return "dial tcp: i/o timeout"
    if isinstance(error, http.ReadTimeoutError):
        return "timeout awaiting response"
    if isinstance(error, http.SSLError):
        return _explain_tls(error)
    if isinstance(error, http.IncompleteRead):
        return f"unexpected EOF: {error.expected} bytes are missing"
    if isinstance(error, client.RemoteDisconnected):
        return "EOF"
    if isinstance(error, http.ProtocolError) and len(error.args) > 1 and isinstance(error.args[1], Exception):
        return explain(error.args[1])
    return str(error)


def _explain_tls(error: BaseException) -> str:
    reason = error.args[0] if error.args else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        why = VERIFY_WORDS.get(reason.verify_code, reason.verify_message)
        return f"tls: failed to verify certificate: x509: {why}"
    if _is_end(error):
        return "EOF"
    if _is_plain(error):
        return "http: server gave HTTP response to HTTPS client"
    _, alert, text = str(getattr(reason, "reason", None) or "").partition("_ALERT_")
    if alert:
        return f"remote error: tls: {text.lower().replace('_', ' ')}"
    return f"tls: {_tls_reason(reason)}"


def _tls_reason(error: object) -> str:
    """Return what is wrong in words, without OpenSSL's place in Python."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return PLACE.sub("", str(getattr(error, "strerror", None) or error))


def _is_plain(error: BaseException) -> bool:
    """Say whether the other side spoke HTTP where TLS was wanted."""
    reason = error.args[0] if error.args else error
    return getattr(reason, "reason", "") in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")


def _is_end(error: BaseException) -> bool:
    """Say whether the other side just closed the connection: that is no word about TLS, it may not know of any."""
    reason = error.args[0] if error.args else error
    closed = isinstance(reason, ssl.SSLEOFError | ssl.SSLZeroReturnError)  # which of them, depends on OpenSSL
    return closed or getattr(reason, "reason", "") == "UNEXPECTED_EOF_WHILE_READING"


def body_of(answer: urllib3.BaseHTTPResponse, what: str, limit: int = MAX_DOCUMENT) -> bytes:
    """Read an answer's body whole. Errors: InvalidArgument (too large, or encoded), Unreachable (it breaks off)."""
    if answer.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        answer.close()
        raise InvalidArgument(f"{what}: unexpected content encoding {answer.headers['Content-Encoding'][:50]!r}")
    data = b""
    try:
        while len(data) <= limit and (piece := answer.read1(1 << 16)):
            check_cancelled()
            data += piece
    except TRANSPORT_ERRORS as error:
        raise Unreachable(f"{what}: {explain(error)}") from error
    if len(data) > limit:
        answer.close()
        raise InvalidArgument(f"{what} is larger than {limit} bytes")
    answer.release_conn()
    return data
