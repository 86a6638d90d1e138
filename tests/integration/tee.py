"""A listener before the API that passes all on, and checks each answer against the specification.

What goes by is bytes in both directions, as they come; a copy of each is parsed on the side, until HTTP ends (101, or
an answer of attach and exec).
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path
from typing import Any

import h11

from tests.specification.schemas import violations

__all__ = ["Tee"]

CHUNK = 1 << 16
HIJACKED = "application/vnd.docker.raw-stream"


class Tee:
    """``wrong``: what is wrong with the answers so far; ``seen``: what was asked, as (method, path, status)."""

    def __init__(self, path: Path, api: Path) -> None:
        self.path, self._api = path, api
        self.wrong: list[str] = []
        self.seen: list[tuple[str, str, int]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        api = socket.socket(socket.AF_UNIX)
        api.connect(str(self._api))
        watcher = _Watcher(self)
        other = {client: api, api: client}
        with client, api, contextlib.suppress(OSError):
            open_ends = {client, api}
            while open_ends:
                for end in select.select(list(open_ends), [], [])[0]:
                    data = end.recv(CHUNK)
                    watcher.take(data, is_answer=end is api)
                    if data:
                        other[end].sendall(data)
                    else:
                        open_ends.discard(end)
                        other[end].shutdown(socket.SHUT_WR)
                        if end is api:  # the server is done: so are we
                            return
                        watcher.client_left()


class _Watcher:
    """One connection, request after request, each an h11 pair of a server (of what is asked) and a client."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self._asked, self._answered = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
        self._request: Any = None
        self._response: Any = None
        self._body = b""
        self._blind = False  # what follows is no HTTP, or not to be judged

    def client_left(self) -> None:
        """An answer may end when nobody waits for it any more."""
        self._blind = True

    def take(self, data: bytes, *, is_answer: bool) -> None:
        if self._blind:
            return
        side = self._answered if is_answer else self._asked
        try:
            side.receive_data(data)
            while not self._blind and (event := side.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.ConnectionClosed):
                    return
                self._note_answer(event) if is_answer else self._note_request(event)
        except h11.RemoteProtocolError as error:
            if data:  # the end of a stream that was cut is none of ours
                self._tee.wrong.append(f"{self._name()}: no HTTP: {error}")
            self._blind = True

    def _name(self) -> str:
        return f"{self._request.method.decode()} {self._request.target.decode()}" if self._request else "?"

    def _note_request(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._request = event
            upgrade = [(name, value) for name, value in event.headers if name in (b"upgrade", b"connection")]
            headers = [(b"Host", b"x"), *upgrade]
            self._answered.send(h11.Request(method=event.method, target=event.target, headers=headers))
            self._answered.send(h11.EndOfMessage())

    def _note_answer(self, event: Any) -> None:
        if isinstance(event, h11.InformationalResponse | h11.Response):
            self._response = event
            headers = dict(event.headers)
            if event.status_code == 101 or headers.get(b"content-type", b"").decode() == HIJACKED:
                self._check()
                self._blind = True
        elif isinstance(event, h11.Data):
            self._body += event.data
        elif isinstance(event, h11.EndOfMessage):
            self._check()
            self._again()

    def _check(self) -> None:
        status, headers = self._response.status_code, dict(self._response.headers)
        method, target = self._request.method.decode(), self._request.target.decode()
        self._tee.seen.append((method, target, status))
        kind = headers.get(b"content-type", b"").decode()
        self._tee.wrong += violations(method, target, status, kind, self._body)

    def _again(self) -> None:
        """Begin with the next request of the connection."""
        if self._asked.their_state is not h11.DONE:
            self._blind = True  # the answer came before the end of what was asked: the server closes
            return
        rest = self._asked.trailing_data[0]
        self._asked, self._answered = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
        self._request = self._response = None
        self._body = b""
        if rest:
            self.take(rest, is_answer=False)
