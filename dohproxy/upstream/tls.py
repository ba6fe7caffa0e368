"""TLS towards upstreams, between octets and octets: always verified, resumed where the server allows it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from dohproxy.config import settings
from dohproxy.identity.authorities import FileAuthorities
from dohproxy.identity.contexts import show
from dohproxy.identity.designation import is_designated
from dohproxy.identity.followed import Complain, nobody
from dohproxy.identity.key_log import private_log
from dohproxy.identity.own import KeyPair, OwnCertificate
from dohproxy.identity.pins import certificate_matches, pins_of

NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL."""
_DER = 2
"""_ssl.ENCODING_DER of Python."""
_RECORD = 16384
"""A TLS record has no more (RFC 8446 5.1)."""
_REFUSALS = {
    "SSLV3_ALERT_BAD_CERTIFICATE": "bad certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "unsupported certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "certificate revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "certificate unknown",
    "TLSV1_ALERT_UNKNOWN_CA": "unknown ca",
    "TLSV1_ALERT_ACCESS_DENIED": "access denied",
    "TLSV1_ALERT_DECRYPT_ERROR": "decrypt error",
}
"""OpenSSL's names of the alerts by which a server refuses a client's certificate, and those of RFC 8446 6.2."""
_REQUIRED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"


class Unwelcome(ConnectionAbortedError):
    """One side does not want to talk to the other, whoever that is: to try again at once is of no use."""


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


class _Resumable(Struct, frozen=True):
    """A session that can be resumed, and the chain that was verified when it began: a server that resumes shows none."""

    session: ssl.SSLSession
    chain: tuple[bytes, ...]


class _Terms:
    """What connections are made on, for as long as our certificate and the authorities stay the same."""

    def __init__(self, context: ssl.SSLContext, pair: KeyPair | None, authorities: Sequence[bytes] | None) -> None:
        self.context, self.pair, self.authorities = context, pair, authorities
        self.resumable: _Resumable | None = None
        """The latest: never one of other terms, for it vouches for what was verified then, as who we were then."""


class TlsClient:
    """How one upstream is connected to: whom its certificate must be for, who may vouch for it, and its last session.

    Its `tls_name`, or else its host, is a DNS name or an IP address, checked against the certificate's subject alternative
    names only (RFC 8310 8.1); names are sent as SNI. With `alpn_required` a server that does not choose `alpn` is refused.
    `own` is what we show; it and the CA file may change while we run: that is for new connections, those open stay. What
    could not be used is told to `complain`. Raises BadAuthorities for an unusable CA file, and BadCertificate.
    """

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        alpn: str,
        *,
        alpn_required: bool = False,
        own: OwnCertificate | None = None,
        complain: Complain = nobody,
    ) -> None:
        self.resumed = 0
        """How many handshakes resumed a session."""
        self.alpn = alpn
        self.alpn_required = alpn_required
        self.pins, self.tbs_pins = upstream.pins, upstream.tbs_pins
        self._name = (upstream.tls_name or upstream.host).removesuffix(".")
        self._upstream, self._key_log = upstream, forwarding.key_log
        self._own, self._complain = own, complain
        self._authorities = None if upstream.ca_file is None else FileAuthorities(upstream.ca_file, complain)
        self._terms: _Terms | None = None

    def layer(self) -> Layer:
        """For one new connection. Raises BadCertificate while there is none of ours that could be shown."""
        return _Tls(self, self._current())

    def wrap(self, terms: _Terms, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """The TLS engine of one connection."""
        session = terms.resumable.session if terms.resumable is not None else None
        return terms.context.wrap_bio(incoming, outgoing, server_hostname=self._name, session=session)

    def refused(self, error: ssl.SSLError) -> Unwelcome | None:
        """Whether a broken connection is the server's word on who we are."""
        if error.reason == _REQUIRED and self._own is None:
            return Unwelcome("the server wants a certificate of us, and none is configured")
        why = "certificate required" if error.reason == _REQUIRED else _REFUSALS.get(error.reason or "")
        return Unwelcome(f"the server refuses our certificate: {why}") if why and self._own is not None else None

    def check_pins(self, chain: Sequence[bytes]) -> None:
        """Raises Unwelcome, with the pins that would match, unless the verified chain has what is pinned, and is designated."""
        if not certificate_matches(self.pins, self.tbs_pins, chain):
            raise Unwelcome(f"none of the server's certificates is pinned: they have {pins_of(chain) or 'no keys'}")
        by = self._upstream.designated_by
        if by and not (chain and is_designated(chain[0], by)):
            raise Unwelcome(f"its certificate is not for {by} too, which designated it (RFC 9462 4.2)")

    def _current(self) -> _Terms:
        pair = None if self._own is None else self._own.current()
        authorities = None if self._authorities is None else self._authorities.current()
        if self._terms is None or pair is not self._terms.pair or authorities is not self._terms.authorities:
            self._terms = _Terms(self._context(pair, authorities), pair, authorities)
        return self._terms

    def _context(self, pair: KeyPair | None, authorities: Sequence[bytes] | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and name
        context.minimum_version = ssl.TLSVersion.TLSv1_2 if self._upstream.allow_tls12 else ssl.TLSVersion.TLSv1_3
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.hostname_checks_common_name = False
        context.set_alpn_protocols([self.alpn])
        if self._upstream.any_date:
            context.verify_flags |= NO_CHECK_TIME
        if authorities is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            context.load_verify_locations(cadata=b"".join(authorities))
        if pair is not None:
            show(context, pair)
        if self._key_log is not None:
            self._log_keys(context, self._key_log)
        return context

    def _log_keys(self, context: ssl.SSLContext, log: Path) -> None:
        try:
            context.keylog_filename = private_log(log)
        except OSError as error:
            self._complain(f"the secrets of TLS are not written to {log}: {error.strerror}")


class _Tls:
    """One connection's TLS over two memory buffers."""

    def __init__(self, client: TlsClient, terms: _Terms) -> None:
        self._client, self._terms = client, terms
        self._offered = terms.resumable
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = client.wrap(terms, self._incoming, self._outgoing)
        self._chain: tuple[bytes, ...] = ()
        self.established = False
        self.ended = False

    def shake_hands(self) -> None:
        try:
            self._engine.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise self._client.refused(error) or error from error
        if self._client.alpn_required and self._engine.selected_alpn_protocol() != self._client.alpn:
            raise ConnectionAbortedError(f"the server does not speak {self._client.alpn}")
        self._chain = self._verified()
        self._client.check_pins(self._chain)
        self.established = True
        self._client.resumed += self._engine.session_reused is True

    def _verified(self) -> tuple[bytes, ...]:
        """The chain that the server proved to have, now or when the session began that it resumed."""
        if self._engine.session_reused and self._offered is not None:
            return self._offered.chain
        return _verified_chain(self._engine)

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
                if not self._incoming.pending and not self._engine.pending():
                    break  # to be told so by an exception takes longer
            else:
                self.ended = True
        except ssl.SSLWantReadError:
            pass  # for now that was all
        except ssl.SSLError as error:  # with TLS 1.3 the server judges us after the handshake (RFC 8446 4.4.2.4)
            raise self._client.refused(error) or error from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def outgoing(self) -> bytes:
        return self._outgoing.read()

    def close(self) -> None:
        """Sends close_notify (RFC 8446 6.1); without it OpenSSL would not let the session be resumed."""
        if not self.established:
            return
        session = self._engine.session
        if session is not None and session.has_ticket:
            self._terms.resumable = _Resumable(session, self._chain)
        try:
            self._engine.unwrap()
        except ssl.SSLError:
            return  # it waits for the peer's goodbye, and we do not


def _verified_chain(engine: ssl.SSLObject) -> tuple[bytes, ...]:
    """The certificates in DER that OpenSSL verified, the server's first and the authority's last."""
    public: Any = getattr(engine, "get_verified_chain", None)  # of Python 3.13
    if public is not None:
        return tuple(public())
    private: Any = engine
    return tuple(certificate.public_bytes(_DER) for certificate in private._sslobj.get_verified_chain())
