"""Registries, without a registry: names, challenges, endpoints, proxies, error texts."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from services.graphdriver.registry.answers import Refused, message_of, pull_error
from services.graphdriver.registry.challenges import Challenge, parse_challenges
from services.graphdriver.registry.client import Document
from services.graphdriver.registry.endpoints import HUB, Endpoint, Endpoints
from services.graphdriver.registry.manifests import parse
from services.graphdriver.registry.proxies import Proxies
from services.graphdriver.registry.references import Reference
from services.graphdriver.registry.transport import explain
from shared.protocol import InvalidArgument, NotFound
from shared.runtime.config import Config

DIGEST = "sha256:" + "a" * 64


# -- references


@pytest.mark.parametrize(
    ("image", "tag", "full", "familiar"),
    [
        ("busybox", "1.0", "docker.io/library/busybox:1.0", "busybox:1.0"),
        ("busybox", "", "docker.io/library/busybox", "busybox"),
        ("busybox:", "1", "docker.io/library/busybox:1", "busybox:1"),
        ("busybox:2", "", "docker.io/library/busybox:2", "busybox:2"),
        ("busybox:2", "1", "docker.io/library/busybox:1", "busybox:1"),
        ("index.docker.io/me/x", "1", "docker.io/me/x:1", "me/x:1"),
        ("localhost:5000/a/b", DIGEST, f"localhost:5000/a/b@{DIGEST}", f"localhost:5000/a/b@{DIGEST}"),
        (f"busybox:2@{DIGEST}", "", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        ("[::1]:5000/x", "1", "[::1]:5000/x:1", "[::1]:5000/x:1"),
    ],
)
def test_references(image: str, tag: str, full: str, familiar: str) -> None:
    reference = Reference.parse(image, tag)
    assert (reference.full, reference.familiar) == (full, familiar)


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("", "1"),
        ("X", "1"),
        ("x", "-"),
        ("x", "a/b"),
        ("x", "sha256:00"),
        ("x", "a" * 129),
        ("x//y", "1"),
        ("x", "a b"),
    ],
)
def test_names_that_are_none(image: str, tag: str) -> None:
    with pytest.raises(InvalidArgument):
        Reference.parse(image, tag)


@given(st.text(max_size=60), st.text(max_size=20))
def test_any_text_is_a_reference_or_invalid(image: str, tag: str) -> None:
    try:
        reference = Reference.parse(image, tag)
    except InvalidArgument:
        return
    again = Reference.parse(reference.full)
    assert (again.domain, again.path, again.wanted) == (reference.domain, reference.path, reference.wanted)


# -- challenges (RFC 9110 §11.6.1)

TOKENS = st.from_regex(r"\A[A-Za-z0-9!#$%&'*+.^_`|~-]{1,8}\Z")
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
CHALLENGES = st.lists(
    st.builds(Challenge, TOKENS.map(str.lower), st.dictionaries(TOKENS.map(str.lower), VALUES, min_size=1, max_size=3)),
    max_size=3,
)


@given(CHALLENGES, st.sampled_from([",", ", ", " , "]))
def test_what_is_written_is_read(challenges: list[Challenge], comma: str) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def write(challenge: Challenge) -> str:
        return f"{challenge.scheme} " + comma.join(f"{n}={quoted(v)}" for n, v in challenge.parameters.items())

    assert parse_challenges(comma.join(map(write, challenges))) == challenges


@given(st.text())
def test_any_header_is_read_without_harm(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower() != ""


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", []),
        ("Basic", [Challenge("basic")]),
        ("Basic realm=x", [Challenge("basic", {"realm": "x"})]),
        ('Negotiate, BASIC Realm="a,b=c"', [Challenge("negotiate"), Challenge("basic", {"realm": "a,b=c"})]),
        ("NTLM aGk=, Basic realm=x", [Challenge("ntlm"), Challenge("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"',
            [Challenge("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"})],
        ),
    ],
)
def test_challenges(header: str, challenges: list[Challenge]) -> None:
    assert parse_challenges(header) == challenges


# -- manifests


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_invalid(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        parse(Document("", data, DIGEST))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(DIGEST) | st.just(2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["digest", "size", "mediaType", "platform", "os"]), inner, max_size=4)
    ),
    max_leaves=8,
)
KINDS = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
]


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(["config", "layers", "manifests"]), JSON))
def test_any_document_is_a_manifest_or_invalid(kind: str, document: dict[str, Any]) -> None:
    data = json.dumps({"schemaVersion": 2, "mediaType": kind, **document}).encode()
    try:
        found = parse(Document(kind, data, DIGEST))
    except InvalidArgument:
        return
    assert found.media_type == kind


# -- endpoints


def test_endpoints() -> None:
    config = Config(
        registry_mirrors=("https://mirror.example:5000/", "http://10.0.0.1"),
        insecure_registries=("box:5000", "10.0.0.0/8"),
    )
    names = {"inside.example": ["10.1.2.3"], "localhost": ["::1", "127.0.0.1"], "outside.example": ["192.0.2.1"]}
    endpoints = Endpoints(config, lambda host: names.get(host, []))

    def urls(domain: str, **options: bool) -> list[str]:
        return [endpoint.url for endpoint in endpoints.of(domain, **options)]

    assert urls("docker.io") == ["https://mirror.example:5000", "http://10.0.0.1", HUB]
    assert endpoints.of("docker.io", to_push=True) == [Endpoint(HUB)]
    assert urls("box:5000") == ["https://box:5000", "http://box:5000"]
    assert urls("box:5001") == ["https://box:5001"]
    for domain in ("10.9.9.9:5000", "inside.example", "localhost:5000", "127.3.2.1"):
        assert urls(domain) == [f"https://{domain}", f"http://{domain}"]
    for domain in ("outside.example", "nowhere.example", "11.0.0.1", "[::1]:5000"):
        assert urls(domain) == [f"https://{domain}"]


# -- proxies


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://registry.example/v2/", "http://proxy:3129"),
        ("http://registry.example/v2/", "http://proxy:3128"),
        ("https://sub.excepted.example/", None),
        ("https://excepted.example/", None),
        ("https://notexcepted.example/", "http://proxy:3129"),
        ("https://only.below.example/", None),
        ("https://below.example/", "http://proxy:3129"),
        ("https://10.1.2.3/", None),
        ("https://11.1.2.3/", "http://proxy:3129"),
        ("https://port.example:5000/", None),
        ("https://port.example/", "http://proxy:3129"),
        ("https://localhost:5000/", None),
        ("https://127.0.0.9/", None),
        ("https://[::1]/", None),
    ],
)
def test_proxies(url: str, proxy: str | None) -> None:
    environ = {
        "HTTP_PROXY": "http://proxy:3128",
        "https_proxy": "proxy:3129",
        "NO_PROXY": "excepted.example, .below.example,10.0.0.0/8,port.example:5000",
    }
    assert Proxies(environ).of(url) == proxy
    assert Proxies({**environ, "no_proxy": "*", "NO_PROXY": ""}).of(url) is None
    assert Proxies({}).of(url) is None


# -- error texts


def test_what_registries_say() -> None:
    reference = Reference.parse("me/x", "1")
    body = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}'
    error = pull_error(Refused(404, body), reference)
    assert isinstance(error, NotFound)
    assert error.message == "manifest for me/x:1 not found: manifest unknown: manifest unknown"
    assert {Refused(status, b"<html>").error().code for status in (429, 500, 503)} == {"internal"}
    assert Refused(429, b"").text == "toomanyrequests"
    assert Refused(418, b"").text == "received unexpected HTTP status: 418"
    assert message_of(b'{"details": "incorrect username or password"}') == "incorrect username or password"
    assert message_of(b'{"message": "two\\nlines\\u001b[0m"}') == "twolines[0m"
    assert message_of(b"[" * 100_000) == ""


@given(st.integers(300, 599), st.binary(max_size=100))
def test_any_answer_is_an_error_with_a_message(status: int, data: bytes) -> None:
    assert Refused(status, data).error().message


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:2427)"), "EOF"),
        (ssl.SSLError(1, "[SSL: UNEXPECTED_EOF_WHILE_READING] unexpected eof while reading (_ssl.c:1006)"), "EOF"),
        (ssl.SSLError(5, "something else (_ssl.c:99)"), "tls: something else"),
    ],
)
def test_failures_of_tls_do_not_name_places_in_python(error: ssl.SSLError, told: str) -> None:
    error.reason = "UNEXPECTED_EOF_WHILE_READING" if "UNEXPECTED" in str(error) else ""
    assert explain(urllib3.exceptions.SSLError(error)) == told


def test_a_server_that_goes_without_a_word_is_an_end_of_file() -> None:
    gone = http.client.RemoteDisconnected("Remote end closed connection without response")
    assert explain(urllib3.exceptions.ProtocolError("Connection aborted.", gone)) == "EOF"


@pytest.mark.parametrize("kind", [ssl.SSLEOFError, ssl.SSLZeroReturnError])
def test_a_server_that_closes_where_tls_begins_is_an_end_of_file(kind: type[ssl.SSLError]) -> None:
    closed = kind(6, "TLS/SSL connection has been closed (EOF) (_ssl.c:992)")
    assert explain(urllib3.exceptions.SSLError(closed)) == "EOF"
