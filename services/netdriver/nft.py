"""Nft: native nftables through libnftables(3), in this process: 0.1 ms a transaction, where ``nft`` takes 3."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from typing import Any

from shared.protocol import DockyardError

__all__ = ["Nft", "NftError"]

NFT_CTX_OUTPUT_JSON = 1 << 4
FD_SETSIZE = 1024  # select(2)


class NftError(DockyardError):
    """The kernel or the parser refused a transaction; nothing of it was done."""


class Nft:
    """The rules of the network namespace in which this was made. Thread-safe.

    Raises NftError if the library (Debian: libnftables1) is missing, or if it is made so late that its socket would
    have a descriptor of 1024 or more: the library waits by select(2), and would abort the process.
    """

    def __init__(self) -> None:
        if _next_descriptor() >= FD_SETSIZE:
            raise NftError(f"nftables: too many descriptors are open, {FD_SETSIZE} are the limit of libnftables")
        try:
            self._library = ctypes.CDLL("libnftables.so.1")
        except OSError as error:
            raise NftError(f"libnftables.so.1 cannot be loaded: {error}") from error
        for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
            getattr(self._library, name).restype = ctypes.c_char_p
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give its socket back. Nothing may be run afterwards."""
        with self._lock:
            self._library.nft_ctx_free(self._context)

    def read(self, command: str) -> list[dict[str, Any]]:
        """Return what a ``list`` command finds, as libnftables-json(5) has it; raises NftError."""
        with self._lock:
            before = self._library.nft_ctx_output_get_flags(self._context)
            self._library.nft_ctx_output_set_flags(self._context, before | NFT_CTX_OUTPUT_JSON)
            try:
                text = self._run(command)
            finally:
                self._library.nft_ctx_output_set_flags(self._context, before)
        found: list[dict[str, Any]] = json.loads(text)["nftables"]
        return found

    def run(self, commands: str) -> str:
        """Carry out nft(8) commands in one transaction and return what they print; raises NftError."""
        with self._lock:
            return self._run(commands)

    def _run(self, commands: str) -> str:
        status = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        error: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if status != 0:
            raise NftError(f"nftables: {error.decode(errors='replace').strip()}")
        return output.decode()


def _next_descriptor() -> int:
    """Return the descriptor that would be opened next."""
    descriptor = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.close(descriptor)
    return descriptor
