"""DNS over dedicated QUIC connections, the client's side (RFC 9250): a stream for each question."""

from __future__ import annotations

from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset

from dohproxy.errors import Disconnected, UpstreamFailed
from dohproxy.model import Question
from dohproxy.protocol.doq import DoqError, Incoming
from dohproxy.protocol.quic_client import ClientConnection
from dohproxy.protocol.session import Received, answers, question_octets
from dohproxy.wire.framing import frame
from dohproxy.wire.query import build_query


class _Asked(Incoming):
    """A question, and what has come of its answer."""

    def __init__(self, question: bytes) -> None:
        super().__init__()
        self.question = question


class DoqSession:
    """One connection's exchanges by stream, at most `pipeline` of them and never more than the peer lets begin."""

    no_error = int(DoqError.NO_ERROR)
    protocol_error = int(DoqError.PROTOCOL_ERROR)

    def __init__(self, *, pipeline: int, checking_disabled: bool = True) -> None:
        self._pipeline = pipeline
        self._cd = checking_disabled
        self._asked: dict[int, _Asked] = {}
        self._quic: ClientConnection | None = None

    def attach(self, quic: ClientConnection) -> None:
        """Speak over this connection from now on."""
        self._quic = quic

    @property
    def ready(self) -> bool:
        """Whether there is a connection to speak over."""
        return self._quic is not None

    @property
    def capacity(self) -> int:
        """How many more exchanges may begin now."""
        return 0 if self._quic is None else min(self._pipeline - len(self._asked), self._quic.streams_left)

    @property
    def closing(self) -> bool:
        """Whether no exchange may ever begin again."""
        return self._quic is not None and self._quic.streams_spent

    def begin(self, question: Question, cd: bool = False) -> int:
        """Ask: the key of the exchange."""
        assert self._quic is not None  # there is no capacity before
        stream = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(stream, frame(build_query(question, 0, cd=self._cd or cd)), end_stream=True)
        self._asked[stream] = _Asked(question_octets(question))
        return stream

    def forget(self, key: int) -> None:
        """Nobody waits for this exchange any longer (RFC 9250 4.3.1)."""
        if self._asked.pop(key, None) is not None and self._quic is not None:
            self._quic.cancel(key, DoqError.REQUEST_CANCELLED)

    def handle_untrusted(self, event: QuicEvent) -> list[Received]:
        """What an event completes. Raises MalformedMessage for what is no DNS over QUIC (RFC 9250 4.3.3)."""
        if isinstance(event, StreamDataReceived):
            return self._receive_untrusted(event)
        if isinstance(event, StreamReset) and self._asked.pop(event.stream_id, None) is not None:
            return [Received(event.stream_id, _reset(event.error_code))]
        return []

    def _receive_untrusted(self, event: StreamDataReceived) -> list[Received]:
        asked = self._asked.get(event.stream_id)
        if asked is None:
            return []
        message = asked.receive_untrusted(event.data, event.end_stream)
        if message is None:
            return []
        del self._asked[event.stream_id]
        if not answers(message, asked.question):
            return [Received(event.stream_id, UpstreamFailed("an answer to another question"))]
        return [Received(event.stream_id, message)]


def _reset(code: int) -> UpstreamFailed:
    """What a stream that the server gave up says of the server: mostly that it is busy, and safe to ask again."""
    if code == DoqError.PROTOCOL_ERROR:
        return UpstreamFailed("the server takes our question for an error")
    return Disconnected("the server reset the stream")
