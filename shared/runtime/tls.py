"""TLS of the API: what `dockyard up` checks, and every API worker serves with, is made in one place."""

from __future__ import annotations

import ssl

from shared.runtime.config import Config, ConfigError

__all__ = ["server_context"]


def server_context(config: Config) -> ssl.SSLContext:
    """Make the context that the tls settings describe, TLS 1.2 and later. Raises ConfigError naming the setting."""
    for key in ("tlscert", "tlskey", *(["tlscacert"] if config.tlsverify else [])):
        path = getattr(config, key)
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigError(f"{key}: {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which Python 3.11.2 sets: a client that is cut off has not ended
    context.num_tickets = 0  # a ticket of one worker is no use to the next
    try:
        context.load_cert_chain(config.tlscert, config.tlskey, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"tlscert, tlskey: {config.tlscert} and {config.tlskey} do not serve: {error}") from None
    if config.tlsverify:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(config.tlscacert)
        except ssl.SSLError as error:
            raise ConfigError(f"tlscacert: {config.tlscacert}: {error}") from None
    return context
