"""DNS over dedicated QUIC connections, the server's side (RFC 9250): a stream, a query."""

from __future__ import annotations

from aioquic.quic import events

from dohproxy.errors import MalformedMessage
from dohproxy.listen.quic_connection import QuicConnection
from dohproxy.protocol.doq import DoqError, Incoming
from dohproxy.wire import constants as c
from dohproxy.wire.framing import frame
from dohproxy.wire.options import option_untrusted

_KEEPALIVE = c.OPTION_TCP_KEEPALIVE.to_bytes(2)


class DoqSession:
    """What is spoken on one connection."""

    excess: int = DoqError.EXCESSIVE_LOAD
    closed: int = DoqError.NO_ERROR

    def __init__(self, connection: QuicConnection) -> None:
        self._connection = connection
        self._counters = connection.counters
        self._incoming: dict[int, Incoming] = {}
        self._stopped = False

    @property
    def held(self) -> int:
        """Octets of messages that are not complete."""
        return sum(map(len, self._incoming.values()))

    def handle(self, event: events.QuicEvent) -> None:
        """Take what came on a stream."""
        if isinstance(event, events.StreamDataReceived):
            try:
                self._take_untrusted(event.stream_id, event.data, event.end_stream)
            except MalformedMessage as error:
                self._connection.close(DoqError.PROTOCOL_ERROR, str(error))
        elif isinstance(event, (events.StreamReset, events.StopSendingReceived)):
            self._incoming.pop(event.stream_id, None)
            self._connection.reset(event.stream_id, DoqError.REQUEST_CANCELLED)
            self._connection.withdraw(event.stream_id)

    def stop(self) -> None:
        """Take no more queries: there is no way to say so but the connection's end."""
        self._stopped = True

    def _take_untrusted(self, stream: int, data: bytes, end: bool) -> None:
        if stream & 3:
            raise MalformedMessage("only streams that a client opens, in both directions, carry queries")
        incoming = self._incoming.get(stream)
        if incoming is None:
            incoming = self._incoming[stream] = Incoming()
        message = incoming.receive_untrusted(data, end)
        if message is None:
            return
        del self._incoming[stream]
        if _has_keepalive_untrusted(message):
            raise MalformedMessage("the option edns-tcp-keepalive over QUIC")
        if not self._stopped and self._connection.quic.is_open(stream):
            self._counters.doq_queries += 1
            self._connection.ask(stream, message, self._put)

    def _put(self, stream: int, reply: bytes) -> None:
        if reply:
            self._connection.answer(stream, frame(reply))
        else:
            self._connection.reset(stream, DoqError.UNSPECIFIED_ERROR)


def _has_keepalive_untrusted(message: bytes) -> bool:
    """Whether a query has the option, whatever is in it: there is no meaning to it here (RFC 9250 5.5.2)."""
    return _KEEPALIVE in message and option_untrusted(message, c.OPTION_TCP_KEEPALIVE) is not None
