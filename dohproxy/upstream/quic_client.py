"""How one upstream is connected to over QUIC: whom its certificate must be for, who we are, and its last session."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TextIO

from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import SessionTicket
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from dohproxy.config import settings
from dohproxy.identity.followed import Complain, nobody
from dohproxy.identity.key_log import private_log
from dohproxy.identity.own import BadCertificate, KeyPair, OwnCertificate
from dohproxy.protocol.quic_client import MAX_DATAGRAM, MAX_STREAM, ClientConnection
from dohproxy.upstream.trust import Trust

logging.getLogger("quic").disabled = True  # what matters of it is told by those who use the connection
_FIRST_RTT = 0.1
"""Seconds that a round trip is thought to take before there was one: a lost first packet is sent again after twice that."""


class Ticket(Struct, frozen=True):
    """A session to resume, and what it was begun under: it counts for nothing else, for the server shows no chain again."""

    session: SessionTicket
    address: str
    terms: object
    """By what the server's chain was judged: authorities and pins."""
    own: KeyPair | None
    """As whom the server knows us by it."""


class QuicClient:
    """What the connections to one upstream have in common, and leave to each other. Raises BadAuthorities.

    `own` is what we show; it may change while we run: that is for new connections, those open stay. What could not be used
    is told to `complain`.
    """

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        alpn: str,
        *,
        own: OwnCertificate | None = None,
        complain: Complain = nobody,
    ) -> None:
        self.resumed = 0
        """How many handshakes resumed a session."""
        self.early = 0
        """How many of them brought questions that the server took with their first flight."""
        self._trust, self._alpn, self._own = Trust(upstream, complain), alpn, own
        self._zero_rtt, self._idle_timeout = upstream.zero_rtt, forwarding.idle_timeout
        self._key_log, self._complain = forwarding.key_log, complain
        self._trust.terms()
        self._ticket: Ticket | None = None
        self._tokens: dict[str, bytes] = {}

    def early_address(self) -> str | None:
        """Where a question may be sent before there is a connection (RFC 9001 4.6); None where that may not be."""
        ticket = self._usable(self._current())
        return ticket.address if ticket is not None and ticket.session.max_early_data_size is not None else None

    def connection(self, address: str) -> ClientConnection:
        """A new one, ready to be connected. Raises BadCertificate while there is none of ours that could be shown."""
        own = self._current()
        ticket = self._usable(own)
        configuration = QuicConfiguration(
            alpn_protocols=[self._alpn],
            idle_timeout=self._idle_timeout,
            initial_rtt=_FIRST_RTT,
            max_datagram_size=MAX_DATAGRAM,
            max_stream_data=MAX_STREAM,
            secrets_log_file=self._open_key_log(),
            server_name=self._trust.name,
            session_ticket=ticket.session if ticket is not None else None,
            token=self._tokens.pop(address, b""),
        )
        if own is not None:
            configuration.certificate, configuration.certificate_chain, configuration.private_key = _shown(own)
        keep_ticket = partial(self._keep, address, self._trust.terms(), own)
        return ClientConnection(
            configuration, self._trust.verify, keep_ticket=keep_ticket, keep_token=partial(self._tokens.__setitem__, address)
        )

    def forget(self) -> None:
        """The last session is not to be resumed: it led nowhere."""
        self._ticket = None

    def _open_key_log(self) -> TextIO | None:
        if self._key_log is None:
            return None
        try:
            return _appended(self._key_log)
        except OSError as error:
            self._complain(f"the secrets of QUIC are not written to {self._key_log}: {error.strerror}")
            return None

    def _current(self) -> KeyPair | None:
        return self._own.current() if self._own is not None else None

    def _usable(self, own: KeyPair | None) -> Ticket | None:
        ticket = self._ticket
        if ticket is None or ticket.terms is not self._trust.terms() or ticket.own is not own:
            return None
        return ticket if ticket.session.is_valid else None

    def _keep(self, address: str, terms: object, own: KeyPair | None, session: SessionTicket) -> None:
        if not self._zero_rtt:
            session = replace(session, max_early_data_size=None)
        self._ticket = Ticket(session, address, terms, own)


@lru_cache(maxsize=16)
def _shown(own: KeyPair) -> tuple[x509.Certificate, list[x509.Certificate], Any]:
    """Our certificate, those above it, and its key, as aioquic takes them. Raises BadCertificate."""
    leaf, *others = x509.load_pem_x509_certificates(own.chain)
    if isinstance(own.key, str):
        return leaf, others, _key_in_hsm(own.key, leaf)
    return leaf, others, load_pem_private_key(own.key, None)


def _key_in_hsm(uri: str, certificate: x509.Certificate) -> Any:
    """A key that signs where it is (RFC 7512)."""
    try:
        from dohproxy.identity.hsm import private_key  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise BadCertificate(f"{uri}: keys in an HSM need the extra hsm") from error
    return private_key(uri, certificate)


@lru_cache(maxsize=4)
def _appended(path: Path) -> TextIO:
    """Kept open: several connections, and processes, write whole lines at its end."""
    return Path(private_log(path)).open("a", buffering=1)
