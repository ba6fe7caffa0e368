"""The client's end of a QUIC connection: aioquic's, with what it leaves to its user.

aioquic verifies certificates without a look at their purpose, and tells neither the chain that it found nor how the limits of
the peer stand. What is overridden or read are methods and attributes with a leading underscore: the tests of the upstreams
fail if one of them ceases to be what it is, and a connection whose server was not verified here carries no question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import stream_is_unidirectional
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from aioquic.quic.packet import QuicErrorCode, QuicPacketType, pull_quic_transport_parameters
from aioquic.quic.stream import QuicStream
from cryptography import x509

from dohproxy.protocol.quic_brief import BriefStreams
from dohproxy.protocol.quic_pieces import bounded
from dohproxy.protocol.quic_tls import Refused, refuse_unreadable
from dohproxy.protocol.quic_window import Window
from dohproxy.protocol.session import Received, Session

MAX_DATAGRAM = 1200
"""Octets of UDP payload: what every path must carry (RFC 9000 14), without finding out whether it carries more."""
MAX_STREAM = 1 << 17
"""Octets that a stream may bring before any are read: a message, and what HTTP/3 puts around it."""
_WINDOW = 1 << 20
"""Octets of a connection that may be held because others are missing."""
_LONG = 0x80
_RESET_TOKEN, _SHORTEST_RESET = 16, 21
"""Octets (RFC 9000 10.3)."""
_LEAST_ROOM = 64
"""Octets of a packet."""
_LAST_STREAM = (1 << 62) - 1 - 4 * 65536

Verify = Callable[[x509.Certificate, Sequence[x509.Certificate]], None]
"""Judges the server's certificate and the others that it sent. Raises Refused."""


class QuicSession(Session, Protocol):
    """A session whose connection is QUIC: an exchange is a stream."""

    no_error: int
    """The application's error code of a connection that ends well."""
    protocol_error: int
    """And of one whose server does not keep to the protocol."""

    def attach(self, quic: ClientConnection) -> None:
        """Speak over this connection from now on; once only."""
        ...

    def handle_untrusted(self, event: QuicEvent) -> list[Received]:
        """What an event completes. Raises MalformedMessage where nothing that follows can be trusted."""
        ...


class ClientConnection(BriefStreams):
    """A connection to a server that `verify` judges, unless its session is resumed."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        verify: Verify,
        *,
        keep_ticket: Callable[[tls.SessionTicket], None],
        keep_token: Callable[[bytes], None],
    ) -> None:
        super().__init__(configuration=configuration, session_ticket_handler=keep_ticket, token_handler=keep_token)
        self._local_max_data = Window(_WINDOW, self._kept)
        self._verify = verify
        self._is_verified = False
        self._was_reset = False
        self._stays = False
        self.ended_it = False
        """Whether it ends by our will."""

    @property
    def greeted(self) -> bool:
        """Whether the server has said anything that only it, or who sees our packets, could."""
        return bool(self._retry_count) or self.tls.state is not tls.State.CLIENT_EXPECT_SERVER_HELLO

    @property
    def trusted(self) -> bool:
        """Whether the server is known to be who it should be, now or when the session began that was resumed."""
        return self._handshake_complete and (self._is_verified or self.tls.session_resumed)

    @property
    def has_early_keys(self) -> bool:
        """Whether something can leave before the handshake is done (RFC 9001 4.6)."""
        return bool(self._cryptos[tls.Epoch.ZERO_RTT].send.is_valid())

    @property
    def streams_left(self) -> int:
        """How many more bidirectional streams may begin now."""
        return self._remote_max_streams_bidi - self._local_next_stream_id_bidi // 4

    @property
    def streams_spent(self) -> bool:
        """Whether stream numbers are near their end."""
        return self._local_next_stream_id_bidi > _LAST_STREAM

    @property
    def end(self) -> ConnectionTerminated | None:
        """How it ends, from either side's word on."""
        if self._was_reset:
            return ConnectionTerminated(QuicErrorCode.NO_ERROR, None, "the server has forgotten the connection")
        return self._close_event

    def close(self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = "") -> None:
        """End it, unless that has begun."""
        self._stirred = True
        self.ended_it = self.ended_it or self._close_event is None
        super().close(error_code, frame_type, reason_phrase)

    @property
    def owed(self) -> bool:
        """Whether the server has yet to acknowledge something."""
        return any(space.ack_eliciting_in_flight for space in self._loss.spaces)

    @property
    def probes(self) -> int:
        """How often in a row no acknowledgement came in time (RFC 9002 6.2)."""
        return self._loss._pto_count

    @property
    def round_trip(self) -> float:
        """Seconds that an acknowledgement may take to come (RFC 9002 6.2.1)."""
        return self._loss.get_probe_timeout()

    @property
    def idle_limit(self) -> float:
        """Seconds after which either side may forget a silent connection (RFC 9000 10.1)."""
        return self._idle_timeout()

    @property
    def may_migrate(self) -> bool:
        """Whether the path may change (RFC 9000 9)."""
        return self._handshake_confirmed and not self._stays

    def migrate(self) -> None:
        """The path is new: use a connection ID that was not seen on the old one (RFC 9000 9.5), and show us there."""
        self.change_connection_id()
        self.send_ping(0)

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """What came from the server."""
        if self._take_packet(data, now):
            return
        if (
            not data[0] & _LONG
            and len(data) >= _SHORTEST_RESET
            and data[-_RESET_TOKEN:] == self._peer_cid.stateless_reset_token
        ):
            self._was_reset = True
        self._stirred = True
        super().receive_datagram(data, addr, now)

    def _connect(self, now: float) -> None:
        """Also after a Retry and a Version Negotiation, with which what was sent early is lost (RFC 9001 4.6.2)."""
        self._resend_early(now)
        super()._connect(now)

    def _handle_crypto_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        was_complete = self._handshake_complete
        super()._handle_crypto_frame(context, frame_type, buf)
        if self._handshake_complete and not was_complete and not self.tls.early_data_accepted:
            self._resend_early(context.time)

    def _resend_early(self, now: float) -> None:
        """What left before the handshake was done is to be sent again, rather than once it is missed."""
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        if space is None:
            return
        early = [packet for packet in space.sent_packets.values() if packet.packet_type is QuicPacketType.ZERO_RTT]
        if early:
            self._loss._on_packets_lost(congestion_event=False, now=now, packets=early, space=space)

    def _kept(self) -> int:
        return sum(len(stream.receiver._buffer) for stream in self._streams.values())

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        """A stream of ours takes one answer, and no more; the server's own, of HTTP/3, go on for as long as the connection."""
        if stream_is_unidirectional(stream.stream_id):
            super()._write_stream_limits(builder, space, stream)

    def _write_stream_frame(self, builder: Any, space: Any, stream: Any, max_offset: int) -> int:
        """Not into the rest of a packet that has no room worth it: aioquic would try that with each stream that waits."""
        if builder.remaining_flight_space < _LEAST_ROOM:
            return 0
        return super()._write_stream_frame(builder, space, stream, max_offset)

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        self._stays = bool(pull_quic_transport_parameters(Buffer(data=data)).disable_active_migration)

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        return bounded(super()._get_or_create_stream(frame_type, stream_id))

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        for stream in self._crypto_streams.values():
            bounded(stream)
        refuse_unreadable(self.tls)
        self.tls._verify_mode = 0  # ssl.CERT_NONE: what follows is stricter
        check_signature = self.tls._client_handle_certificate_verify

        def handle_certificate_verify(input_buf: Buffer) -> None:
            check_signature(input_buf)
            certificate = self.tls._peer_certificate
            if certificate is None:
                raise Refused(tls.AlertDescription.bad_certificate, "it has shown none")
            self._verify(certificate, self.tls._peer_certificate_chain)
            self._is_verified = True

        self.tls._client_handle_certificate_verify = handle_certificate_verify  # type: ignore[method-assign]
