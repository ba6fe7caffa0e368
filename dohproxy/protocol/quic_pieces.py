"""How many pieces a stream over QUIC may come in, while what is between them is missing.

aioquic looks at all of them with each that comes: a peer that sends every second octet would keep it busy for minutes with what
fits into half a second of traffic.
"""

from __future__ import annotations

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStream

MAX_PIECES = 128
"""More than there are packets in a stream, as long as these are not small on purpose."""


class Pieces(RangeSet):
    """Of one stream."""

    def add(self, start: int, stop: int | None = None) -> None:
        """One more. Raises QuicConnectionError if there are too many."""
        super().add(start, stop)
        if len(self) > MAX_PIECES:
            raise QuicConnectionError(QuicErrorCode.INTERNAL_ERROR, QuicFrameType.STREAM_BASE, "a stream in too many pieces")


def bounded(stream: QuicStream) -> QuicStream:
    """This stream, of which nothing has come yet, or which is bounded already."""
    if type(stream.receiver._ranges) is RangeSet:
        stream.receiver._ranges = Pieces()
    return stream
