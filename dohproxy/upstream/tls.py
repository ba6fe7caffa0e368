"""TLS towards upstreams, between octets and octets: always verified, resumed where the server allows it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Protocol

from dohproxy.errors import DohproxyError

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL."""
_RECORD = 16384
"""A TLS record has no more (RFC 8446 5.1)."""


class BadAuthorities(DohproxyError):
    """A CA file that cannot be used."""


class Layer(Protocol):
    """What lies between a session and its socket."""

    @property
    def established(self) -> bool:
        """Whether the session may send."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the peer has said goodbye."""
        ...

    def shake_hands(self) -> None:
        """Goes as far as it can with what has been received; raises OSError, of which ssl.SSLError is one, if it fails."""
        ...

    def seal(self, data: bytes) -> None:
        """Encrypt as one record."""
        ...

    def open(self, data: bytes) -> bytes:
        """Decrypt what came from the socket; raises OSError."""
        ...

    def outgoing(self) -> bytes:
        """What the socket is to send."""
        ...

    def close(self) -> None:
        """Say goodbye."""
        ...


class Plain:
    """No TLS."""

    established = True
    ended = False

    def __init__(self) -> None:
        self._outgoing: list[bytes] = []

    def shake_hands(self) -> None:
        """Nothing to agree on."""

    def seal(self, data: bytes) -> None:
        """To the socket as it is."""
        self._outgoing.append(data)

    def open(self, data: bytes) -> bytes:
        """As it came."""
        return data

    def outgoing(self) -> bytes:
        """What the socket is to send."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def close(self) -> None:
        """TCP says it."""


class TlsClient:
    """How one upstream is connected to: whom its certificate must be for, who may vouch for it, and its last session.

    `tls_name` is a DNS name or an IP address, checked against the certificate's subject alternative names only
    (RFC 8310 8.1); names are sent as SNI. With `alpn_required` a server that does not choose `alpn` is refused; with
    `any_date` certificates need not be valid now, for want of a clock that tells. Raises BadAuthorities for an unusable
    `ca_file`; None is the system's authorities.
    """

    def __init__(
        self,
        tls_name: str,
        alpn: str,
        *,
        ca_file: Path | None,
        allow_tls12: bool = False,
        alpn_required: bool = False,
        any_date: bool = False,
    ) -> None:
        self.session: ssl.SSLSession | None = None
        """The latest that can be resumed."""
        self.resumed = 0
        """How many handshakes resumed a session."""
        self.alpn = alpn
        self.alpn_required = alpn_required
        self._tls_name = tls_name.removesuffix(".")
        self._context = _client_context(ca_file, allow_tls12=allow_tls12)
        if any_date:
            self._context.verify_flags |= _NO_CHECK_TIME
        self._context.set_alpn_protocols([alpn])

    def layer(self) -> Layer:
        """For one new connection."""
        return _Tls(self)

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """The TLS engine of one connection."""
        return self._context.wrap_bio(incoming, outgoing, server_hostname=self._tls_name, session=self.session)


def _client_context(ca_file: Path | None, *, allow_tls12: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if allow_tls12 else ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.hostname_checks_common_name = False
    if ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadAuthorities(f"{ca_file}: no certificates to verify upstreams with ({error})") from error
    return context


class _Tls:
    """One connection's TLS over two memory buffers."""

    def __init__(self, client: TlsClient) -> None:
        self._client = client
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = client.wrap(self._incoming, self._outgoing)
        self.established = False
        self.ended = False

    def shake_hands(self) -> None:
        try:
            self._engine.do_handshake()
        except ssl.SSLWantReadError:
            return
        if self._client.alpn_required and self._engine.selected_alpn_protocol() != self._client.alpn:
            raise ConnectionAbortedError(f"the server does not speak {self._client.alpn}")
        self.established = True
        self._client.resumed += self._engine.session_reused is True

    def seal(self, data: bytes) -> None:
        self._engine.write(data)

    def open(self, data: bytes) -> bytes:
        self._incoming.write(data)
        if not self.established:
            self.shake_hands()
        return self._read() if self.established else b""

    def _read(self) -> bytes:
        pieces = []
        try:
            while piece := self._engine.read(_RECORD):
                pieces.append(piece)
            self.ended = True
        except ssl.SSLWantReadError:
            pass  # for now that was all
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def outgoing(self) -> bytes:
        return self._outgoing.read()

    def close(self) -> None:
        """Sends close_notify (RFC 8446 6.1); without it OpenSSL would not let the session be resumed."""
        if not self.established:
            return
        session = self._engine.session
        if session is not None and session.has_ticket:
            self._client.session = session
        try:
            self._engine.unwrap()
        except ssl.SSLError:
            return  # it waits for the peer's goodbye, and we do not
