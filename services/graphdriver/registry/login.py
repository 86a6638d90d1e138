"""Login: whether a registry takes credentials."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from services.graphdriver.registry.answers import Refused
from services.graphdriver.registry.auth import Authorizer
from services.graphdriver.registry.client import Repository
from services.graphdriver.registry.references import DEFAULT_DOMAIN
from services.graphdriver.registry.sessions import Registries
from services.graphdriver.registry.transport import Unreachable
from shared.protocol import AuthConfig, AuthStatus, DockyardError, InvalidArgument, Unauthorized

__all__ = ["login"]

HUB_NAMES = ("", DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io")


def login(registries: Registries, auth: AuthConfig) -> AuthStatus:
    """Errors: Unauthorized, Unreachable, InvalidArgument (the server's address)."""
    domain = auth.serveraddress.strip().partition("://")[2] or auth.serveraddress.strip()
    domain = domain.partition("/")[0]
    if any(not c.isprintable() or c in " @?#\\" for c in domain):
        raise InvalidArgument(f"invalid server address: {auth.serveraddress[:200]!r}")
    domain = DEFAULT_DOMAIN if domain in HUB_NAMES else domain
    failure: DockyardError | None = None
    with registries.transport() as transport:
        for endpoint in registries.endpoints.of(domain, to_push=True):
            authorizer = Authorizer(transport, auth, is_login=True)
            try:
                _try(Repository(transport, authorizer, endpoint.url, "").ping, f"{endpoint.url}/v2/")
                return AuthStatus(status="Login Succeeded", identity_token=authorizer.identity)
            except Unreachable as error:
                failure = failure if isinstance(failure, Unreachable) and failure.in_tls else error
    raise failure or DockyardError("the registry has no endpoint")


def _try(ping: Callable[[], None], url: str) -> None:
    try:
        ping()
    except Refused as refused:
        status = f"{refused.status} {HTTPStatus(refused.status).phrase if refused.status in set(HTTPStatus) else ''}"
        text = f"login attempt to {url} failed with status: {status.strip()}"
        if refused.status in (401, 403):
            raise Unauthorized(text) from refused
        raise DockyardError(text) from refused
    except Unauthorized as error:
        raise Unauthorized(f'Get "{url}": {error.message}') from error
