"""Auth: what answers a registry's challenge: basic credentials, or a token from where the registry says.

The token protocol is distribution's (token authentication: GET with basic credentials; and OAuth2: POST of a refresh
token, which the API calls identity token).
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from services.graphdriver.registry.answers import message_of
from services.graphdriver.registry.challenges import Challenge, parse_challenges
from services.graphdriver.registry.transport import Transport, body_of
from shared.protocol import AuthConfig, DockyardError, InvalidArgument, Unauthorized

__all__ = ["Authorizer", "NoCredentials", "basic"]

CLIENT_ID = "dockyard"
DEFAULT_LIFETIME = 60.0  # seconds of a token that does not say
MARGIN = 5.0  # seconds before its end at which a token is no more used
MAX_ANSWER = 1 << 20  # bytes
TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")


class NoCredentials(Unauthorized):
    """The registry wants credentials, and there are none."""


class Authorizer:
    """Keeps one registry's authorizations; threads may share it. ``identity``: the refresh token of the last login."""

    def __init__(self, transport: Transport, auth: AuthConfig, *, is_login: bool = False) -> None:
        self._transport, self._auth, self._is_login = transport, auth, is_login
        self._known: dict[tuple[str, ...], tuple[float, str]] = {}  # scopes → (until, header)
        self._basic = ""
        self._lock = threading.Lock()
        self.identity = ""

    def headers(self, scopes: Sequence[str]) -> dict[str, str]:
        """Return what is known to work for these scopes."""
        if self._auth.registrytoken:
            return {"Authorization": f"Bearer {_printable(self._auth.registrytoken)}"}
        until, header = self._known.get(tuple(scopes), (0.0, ""))
        if header and time.monotonic() < until:
            return {"Authorization": header}
        return {"Authorization": self._basic} if self._basic else {}

    def answer(self, url: str, challenges: str, scopes: Sequence[str], refused: dict[str, str]) -> dict[str, str]:
        """Answer a 401 to ``url``; ``refused`` are the headers it was given to. Errors: Unauthorized, Unreachable."""
        with self._lock:
            if (known := self.headers(scopes)) != refused and known:
                return known  # another thread was here first
            for challenge in parse_challenges(challenges):
                if challenge.scheme == "bearer" and not self._auth.registrytoken:
                    lifetime, token = self._fetch(url, challenge, scopes)
                    self._known[tuple(scopes)] = (time.monotonic() + lifetime, f"Bearer {token}")
                    return self.headers(scopes)
                if challenge.scheme == "basic":
                    if not self._auth.username and not self._auth.password:
                        raise NoCredentials("no basic auth credentials")
                    if not refused:
                        self._basic = basic(self._auth)
                        return {"Authorization": self._basic}
        raise Unauthorized("unauthorized: authentication required")

    def _fetch(self, url: str, challenge: Challenge, scopes: Sequence[str]) -> tuple[float, str]:
        realm = challenge.parameters.get("realm", "")
        self._transport.check_downgrade(url, realm)
        service = challenge.parameters.get("service", "")
        wanted = list(dict.fromkeys([*scopes, *filter(None, [challenge.parameters.get("scope", "")])]))
        answer = self._post(realm, service, wanted) if self._auth.identitytoken else self._get(realm, service, wanted)
        return self._take(answer)

    def _get(self, realm: str, service: str, scopes: list[str]) -> dict[str, Any]:
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        headers = {}
        if self._auth.username:
            query += [("account", self._auth.username), ("client_id", CLIENT_ID)]
            query += [("offline_token", "true")] if self._is_login else []
            headers["Authorization"] = basic(self._auth)
        separator = "&" if urlsplit(realm).query else "?"
        return self._ask("GET", f"{realm}{separator}{urlencode(query)}" if query else realm, headers, None)

    def _post(self, realm: str, service: str, scopes: list[str]) -> dict[str, Any]:
        form = {"grant_type": "refresh_token", "refresh_token": self._auth.identitytoken, "client_id": CLIENT_ID}
        form |= {"service": service} if service else {}
        form |= {"scope": " ".join(scopes)} if scopes else {}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", realm, headers, urlencode(form).encode())

    def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> dict[str, Any]:
        answer = self._transport.request(method, url, headers, body)
        data = body_of(answer, "the token server's answer", MAX_ANSWER)
        if answer.status in (400, 401, 403):
            raise Unauthorized(f"unauthorized: {message_of(data) or 'authentication required'}")
        if answer.status != 200:
            told = filter(None, [f"the token server {url.partition('?')[0]} answers {answer.status}", message_of(data)])
            raise DockyardError(": ".join(told))
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise InvalidArgument("the token server's answer is not a JSON object")
        return document

    def _take(self, document: dict[str, Any]) -> tuple[float, str]:
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str):
            raise InvalidArgument("authorization server did not include a token in the response")
        if isinstance(identity := document.get("refresh_token"), str):
            self.identity = identity
        lifetime = document.get("expires_in")
        if not isinstance(lifetime, int | float) or not lifetime > 0:
            lifetime = DEFAULT_LIFETIME
        return max(MARGIN, float(lifetime) - MARGIN), _printable(token)


def _printable(token: str) -> str:
    if not TOKEN.fullmatch(token):
        raise InvalidArgument("the registry's token cannot be sent in a header")
    return token


def basic(auth: AuthConfig) -> str:
    return "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
