"""Routes to registries: what they make of a request."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from shared.protocol import (
    AuthConfig,
    Authenticate,
    AuthStatus,
    DeleteImage,
    DistributionInspect,
    ImageHistory,
    InspectDistribution,
    InspectImage,
    NotFound,
    PullImage,
    PushImage,
    SaveImages,
    SearchImages,
    SearchResult,
    Unauthorized,
)
from tests.unit.apiserver.test_routes import api, message

AUTH = AuthConfig(username="me", password="sécret?>", serveraddress="box:5000")
HEADER = {
    "X-Registry-Auth": base64.urlsafe_b64encode(
        json.dumps({"username": "me", "password": "sécret?>", "serveraddress": "box:5000"}).encode()
    ).decode()
}


def test_a_pull() -> None:
    http, bus = api(pull=None)
    answer = http.post("/v1.51/images/create?fromImage=box%3A5000%2Fx&tag=1&platform=linux%2Farm64", headers=HEADER)
    assert answer.status_code == 200
    assert bus.calls == [PullImage(image="box:5000/x", tag="1", platform="linux/arm64", auth=AUTH)]
    assert answer.headers["Content-Type"] == "application/json"


def test_a_push() -> None:
    http, bus = api(push=None)
    assert http.post("/images/box:5000/a/b/push?tag=1", headers=HEADER).status_code == 200
    assert bus.calls == [PushImage(image="box:5000/a/b", tag="1", auth=AUTH)]


def asked(**platform: str) -> str:
    return quote(json.dumps(platform))


ARM = asked(os="linux", architecture="arm64", variant="v8")
INSPECTED: Any = NotFound("image with reference x was found but does not match the specified platform")


@pytest.mark.parametrize(
    ("method", "path", "older", "job"),
    [
        ("POST", "/images/x/push?tag=1&platform=", "1.45", PushImage(image="x", tag="1", platform="linux/arm64/v8")),
        ("GET", "/images/x/json?platform=", "1.48", InspectImage(image="x", platform="linux/arm64/v8")),
        ("GET", "/images/x/history?platform=", "1.47", ImageHistory(image="x", platform="linux/arm64/v8")),
        ("GET", "/images/x/get?platform=", "1.47", SaveImages(images=["x"], platform="linux/arm64/v8")),
        ("DELETE", "/images/x?platforms=", "1.49", DeleteImage(image="x", platforms=["linux/arm64/v8"])),
    ],
)
def test_platforms_come_as_json(method: str, path: str, older: str, job: Any) -> None:
    http, bus = api(push=None, image_inspect=INSPECTED, history=INSPECTED, image_export=INSPECTED, image_delete=[])
    http.open(path + ARM, method=method)
    http.open(f"/v{older}{path}{ARM}", method=method)
    name = "platforms" if method == "DELETE" else "platform"
    assert bus.calls == [job, msgspec.structs.replace(job, **{name: type(getattr(job, name))()})]


@pytest.mark.parametrize(
    ("platform", "why"),
    [
        (asked(os="linux"), "both OS and Architecture must be provided"),
        ("{}", "both OS and Architecture must be provided"),
        ("{x", "failed to parse platform: "),
        (quote('{"os": 1}'), "failed to parse platform: "),
    ],
)
def test_what_is_no_platform(platform: str, why: str) -> None:
    http, bus = api()
    answer = http.get(f"/images/x/json?platform={platform}")
    assert answer.status_code == 400
    assert message(answer).startswith(why)
    assert not bus.calls


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("manifest for x:1 not found"), 404), (Unauthorized("unauthorized: no"), 401)]
)
def test_what_fails_before_the_first_line_has_a_status(error: Exception, status: int) -> None:
    http, _ = api(pull=error)
    answer = http.post("/images/create?fromImage=x&tag=1")
    assert (answer.status_code, message(answer)) == (status, str(error))


def test_a_login() -> None:
    http, bus = api(auth=AuthStatus(status="Login Succeeded", identity_token="t"))
    body = {"username": "me", "password": "sécret?>", "serveraddress": "box:5000"}
    answer = http.post("/auth", json=body)
    assert json.loads(answer.data) == {"Status": "Login Succeeded", "IdentityToken": "t"}
    assert bus.calls == [Authenticate(auth=AUTH)]


def test_a_search() -> None:
    http, bus = api(search=[SearchResult(name="x", star_count=3, is_official=True)])
    answer = http.get('/images/search?term=x&limit=5&filters={"stars":["3"]}', headers=HEADER)
    (found,) = json.loads(answer.data)
    assert (found["name"], found["star_count"], found["is_official"]) == ("x", 3, True)
    assert bus.calls == [SearchImages(term="x", limit=5, filters={"stars": ["3"]}, auth=AUTH)]


def test_what_a_registry_has() -> None:
    result = DistributionInspect(descriptor={"digest": "sha256:0"}, platforms=[{"os": "linux"}])
    http, bus = api(distribution_inspect=result)
    answer = http.get("/distribution/box:5000/a/b:1/json", headers=HEADER)
    assert json.loads(answer.data) == {"Descriptor": {"digest": "sha256:0"}, "Platforms": [{"os": "linux"}]}
    assert bus.calls == [InspectDistribution(image="box:5000/a/b:1", auth=AUTH)]
