"""The server's end of a QUIC connection: aioquic's, bounded in what a client can make it hold.

aioquic raises the limits of streams and of the connection as data arrives, whether or not anybody could use it yet: a client
that leaves gaps would have it keep any amount. Here a stream never gets more room than a request may take, and the connection
only as much as what is held leaves free. The other limits of aioquic's that matter (paths, challenges, connection IDs,
acknowledged ranges) are bounded as they are. What is overridden are methods and attributes with a leading underscore: the
tests of the listeners' limits fail if one of them ceases to do what it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    Limit,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    stream_is_unidirectional,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.stream import QuicStream

from dohproxy.protocol.quic_packets import reset_token
from dohproxy.protocol.quic_pieces import bounded
from dohproxy.protocol.quic_tls import Handshake, Reception
from dohproxy.protocol.quic_window import Window

MAX_STREAM = 98304
"""Octets of a stream: a message, and what HTTP/3 puts around it."""
WINDOW = 131072
"""Octets of a connection that may be held before they are a request, wherever that may be."""
MAX_CRYPTO = 65536
"""Octets of handshake messages, of each encryption level."""
ACK_DELAY = 0.02
"""Seconds; less than the 25 ms that aioquic announces."""
UNIDIRECTIONAL = 8
"""Streams of that kind that a client may have: HTTP/3 takes three."""


class ServerConnection(QuicConnection):
    """A connection that a client opens. `closing` is whether it is ending, from either side's word on."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        reception: Reception,
        *,
        original: bytes,
        retried: bytes | None,
        streams: int,
        reset_key: bytes,
    ) -> None:
        self.closing = False
        self.retried = retried is not None
        """Whether the client was asked to show its address to be true."""
        self.handshake: Handshake | None = None
        self.held: Callable[[], int] = int
        """How many octets of unfinished requests our side keeps."""
        self._reception, self._reset_key = reception, reset_key
        super().__init__(
            configuration=configuration, original_destination_connection_id=original, retry_source_connection_id=retried
        )
        self._local_max_data = Window(WINDOW, self._kept)
        self._local_max_streams_bidi = Limit(QuicFrameType.MAX_STREAMS_BIDI, "max_streams_bidi", streams)
        self._local_max_streams_uni = Limit(QuicFrameType.MAX_STREAMS_UNI, "max_streams_uni", UNIDIRECTIONAL)
        self._set_reset_tokens()

    @property
    def begun(self) -> bool:
        """Whether a packet has come that could be read."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def path(self) -> Any:
        """Where the client is known to be: the address as it was given with its datagrams; None where that is not certain."""
        path = self._network_paths[0]
        return path.addr if path.is_validated else None

    @property
    def why_closed(self) -> str:
        """In words, whoever said them; "" where nobody did."""
        return "" if self._close_event is None else self._close_event.reason_phrase

    def close(self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = "") -> None:
        """End it, or note that aioquic does."""
        self.closing = True
        super().close(error_code, frame_type, reason_phrase)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """What is to be sent, and where: also where it ends no more than three times what came, to an unproven address."""
        datagrams = super().datagrams_to_send(now)
        path = self._network_paths[0]
        return datagrams if path.can_send(0) else []

    def answered(self) -> set[int]:
        """The streams whose answers are complete on our side, but not yet acknowledged by the client."""
        return {number for number, stream in self._streams.items() if stream.sender._buffer_fin is not None}

    def owed(self) -> int:
        """Octets of answers that the client has not acknowledged."""
        return sum(len(stream.sender._buffer) for stream in self._streams.values())

    def is_open(self, stream: int) -> bool:
        """Whether an answer can still be sent on this stream of the client's."""
        found = self._streams.get(stream)
        return found is not None and found.sender._reset_error_code is None and found.sender._buffer_fin is None

    def acknowledge(self, now: float) -> None:
        """Have what is to be acknowledged leave with the next packet, rather than in one of its own."""
        for space in self._loss.spaces:
            if space.ack_at is not None:
                space.ack_at = min(space.ack_at, now)

    def settle(self) -> None:
        """The handshake is over: drop what was for it, and let answers take acknowledgements along (RFC 9000 13.2.1)."""
        self._crypto_buffers.clear()
        self._ack_delay = ACK_DELAY

    def _kept(self) -> int:
        return self.held() + sum(len(stream.receiver._buffer) for stream in self._streams.values())

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        return bounded(super()._get_or_create_stream(frame_type, stream_id))

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        for stream in self._crypto_streams.values():
            bounded(stream)
        self.handshake = Handshake(self.tls, self._reception)

    def _handle_crypto_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        at = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        if end > MAX_CRYPTO:
            raise QuicConnectionError(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "too long a handshake")
        buf.seek(at)
        super()._handle_crypto_frame(context, frame_type, buf)

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        if stream_is_unidirectional(stream.stream_id):
            super()._write_stream_limits(builder, space, stream)

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        self._set_reset_tokens()

    def _set_reset_tokens(self) -> None:
        """Make the tokens such that they can be told without the connection."""
        for one in self._host_cids:
            one.stateless_reset_token = reset_token(self._reset_key, one.cid)
