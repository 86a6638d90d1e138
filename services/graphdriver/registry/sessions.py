"""Sessions: one job's dealings with one registry, at whichever of its endpoints answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from services.graphdriver.registry.answers import Refused
from services.graphdriver.registry.auth import Authorizer
from services.graphdriver.registry.client import Repository
from services.graphdriver.registry.endpoints import Endpoint, Endpoints
from services.graphdriver.registry.proxies import Proxies
from services.graphdriver.registry.transport import Transport, Unreachable
from shared.protocol import AuthConfig, Cancelled, DockyardError
from shared.runtime.config import Config

__all__ = ["Registries", "Session"]

T = TypeVar("T")
log = logging.getLogger("dockyard.registry")


class Session:
    def __init__(self, transport: Transport, endpoints: list[Endpoint], auth: AuthConfig) -> None:
        self.transport = transport
        self._endpoints = endpoints
        self._authorizers = {e.url: Authorizer(transport, AuthConfig() if e.is_mirror else auth) for e in endpoints}

    def first(self, path: str, act: Callable[[Repository], T], *, push: bool = False) -> tuple[T, Repository]:
        """Do something at the first endpoint that can; returns what came of it, and the repository there.

        A mirror may fail in any way; of a registry's own endpoints the next is asked only if there was no answer.
        """
        failure: Refused | DockyardError = DockyardError("the registry has no endpoint")
        for endpoint in self._endpoints:
            repository = Repository(self.transport, self._authorizers[endpoint.url], endpoint.url, path, push=push)
            try:
                return act(repository), repository
            except Cancelled:
                raise
            except (Refused, DockyardError) as error:
                if not isinstance(failure, Unreachable) or not failure.in_tls:
                    failure = error
                if not (endpoint.is_mirror or isinstance(error, Unreachable)):
                    break
                log.info("endpoint failed url=%s error=%s", endpoint.url, error)
        raise failure


class Registries:
    """What sessions are made of: settings, and the proxies that the environment names."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self.endpoints = Endpoints(config)
        self._certificates, self._proxies = config.certs_dir, Proxies(environ)

    @contextmanager
    def transport(self) -> Iterator[Transport]:
        transport = Transport(self._certificates, self._proxies, self.endpoints.is_insecure)
        try:
            yield transport
        finally:
            transport.close()

    @contextmanager
    def session(self, domain: str, auth: AuthConfig, *, push: bool = False) -> Iterator[Session]:
        """Errors inside, of any endpoint that was the last to be tried, are those of `Repository`."""
        with self.transport() as transport:
            yield Session(transport, self.endpoints.of(domain, to_push=push), auth)
