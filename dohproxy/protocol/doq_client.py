"""DNS over dedicated QUIC connections, the client's side (RFC 9250): a stream for each question."""

from __future__ import annotations

from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset

from dohproxy.errors import Disconnected, UpstreamFailed
from dohproxy.model import Question
from dohproxy.protocol.doq import DoqError, Incoming, message_untrusted
from dohproxy.protocol.quic_client import ClientConnection
from dohproxy.protocol.session import Received, answers, question_octets
from dohproxy.wire.quick import framed_query

_PAD_TO = 128
"""Octets (RFC 8467 4.1)."""


class DoqSession:
    """One connection's exchanges by stream, at most `pipeline` of them and never more than the peer lets begin."""

    no_error = int(DoqError.NO_ERROR)
    protocol_error = int(DoqError.PROTOCOL_ERROR)

    def __init__(self, *, pipeline: int, checking_disabled: bool = True) -> None:
        self._pipeline = pipeline
        self._cd = checking_disabled
        self._asked: dict[int, bytes] = {}
        self._partly: dict[int, Incoming] = {}
        """What has come of answers that come in pieces."""
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
        stream = self._quic.ask(framed_query(question, 0, cd=self._cd or cd, pad_to=_PAD_TO))
        self._asked[stream] = question_octets(question)
        return stream

    def forget(self, key: int) -> None:
        """Nobody waits for this exchange any longer (RFC 9250 4.3.1)."""
        self._partly.pop(key, None)
        if self._asked.pop(key, None) is not None and self._quic is not None:
            self._quic.give_up(key, DoqError.REQUEST_CANCELLED)

    def handle_untrusted(self, event: QuicEvent) -> list[Received]:
        """What an event completes. Raises MalformedMessage for what is no DNS over QUIC (RFC 9250 4.3.3)."""
        if isinstance(event, StreamDataReceived):
            return self._receive_untrusted(event)
        if isinstance(event, StreamReset) and self._asked.pop(event.stream_id, None) is not None:
            self._partly.pop(event.stream_id, None)
            return [Received(event.stream_id, _reset(event.error_code))]
        return []

    def _receive_untrusted(self, event: StreamDataReceived) -> list[Received]:
        stream = event.stream_id
        if (question := self._asked.get(stream)) is None:
            return []
        if event.end_stream and stream not in self._partly:
            message = message_untrusted(event.data)
        else:
            whole = self._partly.setdefault(stream, Incoming()).receive_untrusted(event.data, event.end_stream)
            if whole is None:
                return []
            message = whole
            del self._partly[stream]
        del self._asked[stream]
        return [Received(stream, message if answers(message, question) else UpstreamFailed("an answer to another question"))]


def _reset(code: int) -> UpstreamFailed:
    """What a stream that the server gave up says of the server: mostly that it is busy, and safe to ask again."""
    if code == DoqError.PROTOCOL_ERROR:
        return UpstreamFailed("the server takes our question for an error")
    return Disconnected("the server reset the stream")
