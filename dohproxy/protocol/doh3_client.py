"""DNS over HTTP/3, the client's side (RFC 8484, RFC 9114)."""

from __future__ import annotations

from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset

from dohproxy.errors import Disconnected, MalformedMessage, UpstreamFailed
from dohproxy.model import Question
from dohproxy.protocol.doh_exchange import Requests, Response, query_in_request, response_head
from dohproxy.protocol.http3 import ExcessiveHeaders, Http3
from dohproxy.protocol.quic_client import ClientConnection
from dohproxy.protocol.session import Received, question_octets

ALPN = "h3"
"""RFC 9114 3.1."""


class Doh3Session:
    """One connection's exchanges by stream; `authority` and `path` are those of the URL, `method` is POST or GET."""

    no_error = int(ErrorCode.H3_NO_ERROR)
    protocol_error = int(ErrorCode.H3_GENERAL_PROTOCOL_ERROR)

    def __init__(
        self, authority: str, path: str, method: str = "POST", *, pipeline: int, checking_disabled: bool = True
    ) -> None:
        self._requests = Requests(authority, path, method)
        self._pipeline = pipeline
        self._cd = checking_disabled
        self._responses: dict[int, Response] = {}
        self._quic: ClientConnection | None = None
        self._http: Http3 | None = None

    def attach(self, quic: ClientConnection) -> None:
        """Speak over this connection from now on."""
        self._quic, self._http = quic, Http3(quic)

    @property
    def ready(self) -> bool:
        """Whether there is a connection to speak over."""
        return self._quic is not None

    @property
    def capacity(self) -> int:
        """How many more exchanges may begin now."""
        if self._quic is None or self.closing:
            return 0
        return min(self._pipeline - len(self._responses), self._quic.streams_left)

    @property
    def closing(self) -> bool:
        """Whether no exchange may ever begin again."""
        if self._quic is None or self._http is None:
            return False
        return self._http.last_stream is not None or self._http.broken or self._quic.streams_spent

    def begin(self, question: Question, cd: bool = False) -> int:
        """Ask: the key of the exchange."""
        assert self._quic is not None and self._http is not None  # there is no capacity before
        query = query_in_request(question, cd=self._cd or cd)
        body = query if self._requests.post else b""
        stream = self._http.ask(self._requests.headers(query), body)
        self._responses[stream] = Response(question_octets(question))
        return stream

    def forget(self, key: int) -> None:
        """Nobody waits for this exchange any longer (RFC 9114 4.1.1)."""
        if self._responses.pop(key, None) is not None and self._quic is not None:
            self._quic.give_up(key, ErrorCode.H3_REQUEST_CANCELLED)

    def handle_untrusted(self, event: QuicEvent) -> list[Received]:
        """What an event completes. Raises MalformedMessage where nothing that follows can be trusted."""
        if self._http is None:
            return []
        if isinstance(event, StreamDataReceived) and (received := self._whole(self._http, event)) is not None:
            return [received]
        found = []
        if isinstance(event, StreamReset) and self._responses.pop(event.stream_id, None) is not None:
            found.append(Received(event.stream_id, _reset(event.error_code)))
        try:
            events = self._http.handle_event(event)
        except ExcessiveHeaders:
            raise MalformedMessage("HTTP/3: too many headers") from None
        found += [received for each in events if (received := self._handle(each)) is not None]
        if self._http.broken:
            raise MalformedMessage("HTTP/3: the server does not keep to the protocol")
        return found + self._gone_away(self._http)

    def _whole(self, http: Http3, event: StreamDataReceived) -> Received | None:
        """The answer, if this event is all of it."""
        response = self._responses.get(event.stream_id)
        if response is None or (whole := http.whole(event)) is None:
            return None
        del self._responses[event.stream_id]
        head, body = whole
        refused = response.begin(head) or response.add(body)
        return Received(event.stream_id, refused or response.end(), response.age)

    def _gone_away(self, http: Http3) -> list[Received]:
        """The exchanges that the server will not answer since its GOAWAY: they are safe to repeat (RFC 9114 5.2)."""
        if http.last_stream is None:
            return []
        lost = [key for key in self._responses if key >= (http.last_stream or 0)]
        for key in lost:
            self.forget(key)
        return [Received(key, Disconnected("the server went away")) for key in lost]

    def _handle(self, event: H3Event) -> Received | None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return None
        stream = event.stream_id
        response = self._responses.get(stream)
        if response is None:
            return None
        refused = self._take(response, event)
        if refused is not None:
            self.forget(stream)
            return Received(stream, refused)
        if not event.stream_ended:
            return None
        del self._responses[stream]
        return Received(stream, response.end(), response.age)

    def _take(self, response: Response, event: HeadersReceived | DataReceived) -> UpstreamFailed | None:
        """Why there will be no answer, if so. Interim responses and trailers say nothing (RFC 9114 4.1)."""
        if isinstance(event, DataReceived):
            return response.add(event.data)
        head = response_head(event.headers)
        return None if response.begun or head.is_interim else response.begin(head)


def _reset(code: int) -> UpstreamFailed:
    """A rejected request was not looked at and is safe to repeat (RFC 9114 8.1)."""
    if code in (ErrorCode.H3_REQUEST_REJECTED, ErrorCode.H3_NO_ERROR):
        return Disconnected("the server refused the request")
    return UpstreamFailed("the server reset the stream")
