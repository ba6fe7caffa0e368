"""DNS over HTTP/2, the client's side (RFC 8484, RFC 9113)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error, ProtocolError

from dohproxy.errors import Disconnected, MalformedMessage, UpstreamFailed
from dohproxy.model import Question
from dohproxy.protocol.doh_exchange import Response, Wrapping
from dohproxy.protocol.http2 import open_http2
from dohproxy.protocol.http2_frames import GoawaySifter
from dohproxy.protocol.session import Received, question_octets
from dohproxy.wire.query import build_query

_ROOM_OF_QUERY: Final = 512
"""No query of ours is larger: a name of 255 octets, padded."""
_LAST_STREAM: Final = (1 << 31) - 1 - 2 * 65536
"""Streams are not numbered again (RFC 9113 5.1.1): before they run out the connection is given up."""


class DohSession:
    """One connection's exchanges by stream; `requests` says how a question is put.

    `on_alt_svc` is told what the server says of other ways to reach it (RFC 7838 3).
    """

    def __init__(
        self,
        requests: Wrapping,
        *,
        pipeline: int,
        checking_disabled: bool = True,
        on_alt_svc: Callable[[bytes], None] | None = None,
    ) -> None:
        self._requests = requests
        self._pipeline = pipeline
        self._cd = checking_disabled
        self._on_alt_svc = on_alt_svc
        self.ready = False
        """Whether the first SETTINGS have come, which tell how many streams the peer takes."""
        self._limit = 0
        self._streams: dict[int, Response] = {}
        self._sifter = GoawaySifter()
        self._h2 = open_http2(pipeline)

    @property
    def capacity(self) -> int:
        """How many more exchanges may begin now."""
        if self.closing or self._h2.outbound_flow_control_window < _ROOM_OF_QUERY:
            return 0
        return self._limit - len(self._streams)

    @property
    def closing(self) -> bool:
        """Whether no exchange may ever begin again."""
        if self._sifter.last_stream is not None or self._requests.spent:
            return True
        return self._h2.highest_outbound_stream_id > _LAST_STREAM

    def begin(self, question: Question, cd: bool = False) -> int:
        """Ask: the key of the exchange."""
        query = build_query(question, 0, cd=self._cd or cd)
        stream_id = self._h2.get_next_available_stream_id()
        headers, body, self._streams[stream_id] = self._requests.request(query, question_octets(question))
        self._h2.send_headers(stream_id, headers, end_stream=not body)
        if body:
            self._h2.send_data(stream_id, body, end_stream=True)
        return stream_id

    def forget(self, key: int) -> None:
        """Nobody waits for this exchange any longer."""
        if self._streams.pop(key, None) is not None:
            with suppress(ProtocolError):  # its end, or the connection's, may have come already
                self._h2.reset_stream(key, ErrorCodes.CANCEL)

    def receive_untrusted(self, data: bytes) -> list[Received]:
        """What these octets complete. Raises MalformedMessage where nothing that follows can be trusted."""
        frames = self._sifter.receive_untrusted(data)
        try:
            events = self._h2.receive_data(frames)
            found = [received for event in events if (received := self._handle(event)) is not None]
        except H2Error as error:
            raise MalformedMessage(f"HTTP/2: {error}") from error
        return found + self._gone_away()

    def _gone_away(self) -> list[Received]:
        """The exchanges that the peer will not answer since its GOAWAY: they are safe to repeat (RFC 9113 6.8)."""
        last = self._sifter.last_stream
        if last is None:
            return []
        lost = [key for key in self._streams if key > last]
        for key in lost:
            del self._streams[key]
        return [Received(key, Disconnected("the server went away")) for key in lost]

    def _handle(self, event: Event) -> Received | None:
        if isinstance(event, RemoteSettingsChanged):
            self._settle()
        elif isinstance(event, ResponseReceived):
            return self._response(event.stream_id, dict(event.headers))
        elif isinstance(event, DataReceived):
            return self._data(event)
        elif isinstance(event, StreamEnded):
            return self._end(event.stream_id)
        elif isinstance(event, StreamReset) and event.stream_id in self._streams:
            del self._streams[event.stream_id]
            return Received(event.stream_id, _reset(event))
        return None

    def _settle(self) -> None:
        """Takes the peer's limit of streams; none may begin where a query would not fit into a stream's window."""
        self.ready = True
        peer = self._h2.remote_settings
        fits = not self._requests.post or peer.initial_window_size >= _ROOM_OF_QUERY
        self._limit = min(self._pipeline, peer.max_concurrent_streams) if fits else 0

    def _response(self, stream_id: int, headers: dict[bytes, bytes]) -> Received | None:
        stream = self._streams.get(stream_id)
        if self._on_alt_svc is not None and b"alt-svc" in headers:
            self._on_alt_svc(headers[b"alt-svc"])
        return self._refuse(stream_id, stream.begin(headers)) if stream is not None else None

    def _data(self, event: DataReceived) -> Received | None:
        """Takes a piece of the body. What nobody waits for is acknowledged all the same, or the connection's window ends."""
        stream_id, size = event.stream_id, event.flow_controlled_length
        if size:
            self._h2.acknowledge_received_data(size, stream_id)
        if (stream := self._streams.get(stream_id)) is None:
            return None
        return self._refuse(stream_id, stream.add(event.data))

    def _end(self, stream_id: int) -> Received | None:
        stream = self._streams.pop(stream_id, None)
        return Received(stream_id, stream.end(), stream.age) if stream is not None else None

    def _refuse(self, stream_id: int, reason: UpstreamFailed | None) -> Received | None:
        if reason is None:
            return None
        self.forget(stream_id)
        return Received(stream_id, reason)

    def take(self) -> list[bytes]:
        """The octets to send, once only."""
        octets = self._h2.data_to_send()
        return [octets] if octets else []


def _reset(event: StreamReset) -> UpstreamFailed:
    """REFUSED_STREAM was not looked at and is safe to repeat (RFC 9113 8.7)."""
    if event.error_code == ErrorCodes.REFUSED_STREAM:
        return Disconnected("the server refused the stream")
    return UpstreamFailed("the server reset the stream")
