"""A TLS 1.3 client that sends key updates, which the ssl module cannot: OpenSSL, over bytes that a test moves."""

import ctypes
import ctypes.util
from typing import Any, Final

_PIECE: Final = 64 * 1024
_REQUESTED: Final = 1  # SSL_KEY_UPDATE_REQUESTED: the peer is to change its keys too, and says so


def _library(name: str) -> Any:  # noqa: ANN401  functions of a C library have no types
    found = ctypes.util.find_library(name)
    assert found is not None, f"lib{name} of OpenSSL 3 is missing"
    library = ctypes.CDLL(found)
    for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_s_mem", "BIO_new"):
        if hasattr(library, function):
            getattr(library, function).restype = ctypes.c_void_p
    return library


class KeyUpdatingClient:
    """It verifies nothing. What it has to say is in what its methods return; what the server says goes to feed()."""

    def __init__(self) -> None:
        self._ssl, self._crypto = _library("ssl"), _library("crypto")
        self._context = ctypes.c_void_p(self._ssl.SSL_CTX_new(ctypes.c_void_p(self._ssl.TLS_client_method())))
        self._object = ctypes.c_void_p(self._ssl.SSL_new(self._context))
        memory = ctypes.c_void_p(self._crypto.BIO_s_mem())
        self._incoming = ctypes.c_void_p(self._crypto.BIO_new(memory))
        self._outgoing = ctypes.c_void_p(self._crypto.BIO_new(memory))
        self._ssl.SSL_set_bio(self._object, self._incoming, self._outgoing)  # which are the object's from here on
        self._ssl.SSL_set_connect_state(self._object)
        self._room = ctypes.create_string_buffer(_PIECE)
        self.is_up = False

    def shake(self) -> bytes:
        """Go on with the handshake."""
        self.is_up = self._ssl.SSL_do_handshake(self._object) == 1
        return self._said()

    def feed(self, data: bytes) -> None:
        """Take what the server has said."""
        self._crypto.BIO_write(self._incoming, data, len(data))

    def sealed(self, data: bytes) -> bytes:
        """Return data as one record."""
        self._ssl.SSL_write(self._object, data, len(data))
        return self._said()

    def key_updates(self, count: int) -> bytes:
        """Return so many records of 27 bytes, each of which asks for an answer and brings nothing."""
        said = []
        for _ in range(count):
            self._ssl.SSL_key_update(self._object, _REQUESTED)
            self._ssl.SSL_do_handshake(self._object)
            said.append(self._said())
        return b"".join(said)

    def close(self) -> None:
        """Give back what OpenSSL holds for it."""
        self._ssl.SSL_free(self._object)
        self._ssl.SSL_CTX_free(self._context)

    def _said(self) -> bytes:
        said = b""
        while (size := self._crypto.BIO_read(self._outgoing, self._room, _PIECE)) > 0:
            said += self._room.raw[:size]
        return said
