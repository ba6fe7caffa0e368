"""DNS over HTTP/2, the client's side (RFC 8484, RFC 9113)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from h2.errors import ErrorCodes

from dohproxy.errors import Disconnected, UpstreamFailed
from dohproxy.model import Question
from dohproxy.protocol.doh_exchange import Response, Wrapping, query_in_request
from dohproxy.protocol.http2_client import Http2Client, Part
from dohproxy.protocol.session import Received, question_octets

_ROOM_OF_QUERY: Final = 512
"""No query of ours is larger: a name of 255 octets, padded."""


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
        self._streams: dict[int, Response] = {}
        self._http = Http2Client(pipeline)

    @property
    def ready(self) -> bool:
        """Whether the first SETTINGS have come, which tell how many streams the peer takes."""
        return self._http.ready

    @property
    def capacity(self) -> int:
        """How many more exchanges may begin now; none where a query would not fit into the windows."""
        http = self._http
        if self.closing or http.room < _ROOM_OF_QUERY or (http.room_of_stream < _ROOM_OF_QUERY and self._requests.post):
            return 0
        return min(self._pipeline, http.streams) - len(self._streams)

    @property
    def closing(self) -> bool:
        """Whether no exchange may ever begin again."""
        return self._http.last_stream is not None or self._requests.spent or self._http.spent

    def begin(self, question: Question, cd: bool = False) -> int:
        """Ask: the key of the exchange."""
        query = query_in_request(question, cd=self._cd or cd)
        headers, body, response = self._requests.request(query, question_octets(question))
        stream = self._http.ask(headers, body)
        self._streams[stream] = response
        return stream

    def forget(self, key: int) -> None:
        """Nobody waits for this exchange any longer."""
        if self._streams.pop(key, None) is not None:
            self._http.reset(key)

    def receive_untrusted(self, data: bytes) -> list[Received]:
        """What these octets complete. Raises MalformedMessage where nothing that follows can be trusted."""
        found = []
        for part in self._http.receive_untrusted(data):
            if part.head is not None and part.head.alt_svc is not None and self._on_alt_svc is not None:
                self._on_alt_svc(part.head.alt_svc)
            response = self._streams.get(part.stream)
            if response is not None and (received := self._take(response, part)) is not None:
                found.append(received)
        return found if self._http.last_stream is None else found + self._gone_away(self._http.last_stream)

    def _gone_away(self, last: int) -> list[Received]:
        """The exchanges that the peer will not answer since its GOAWAY: they are safe to repeat (RFC 9113 6.8)."""
        lost = [key for key in self._streams if key > last]
        for key in lost:
            del self._streams[key]
        return [Received(key, Disconnected("the server went away")) for key in lost]

    def _take(self, response: Response, part: Part) -> Received | None:
        """What a part of a response completes. Interim responses and trailers say nothing (RFC 9113 8.1)."""
        stream, head, refused = part.stream, part.head, None
        if part.reset is not None:
            del self._streams[stream]
            return Received(stream, _reset(part.reset))
        if head is None:
            refused = response.add(part.data) if response.begun else UpstreamFailed("a body ahead of its headers")
        elif not response.begun and not head.is_interim:
            refused = response.begin(head)
        if part.ended:
            del self._streams[stream]
            return Received(stream, refused or (response.end() if response.is_whole else _cut_short()), response.age)
        if refused is None:
            return None
        self.forget(stream)
        return Received(stream, refused)

    def take(self) -> list[bytes]:
        """The octets to send, once only."""
        octets = self._http.take()
        return [octets] if octets else []


def _cut_short() -> UpstreamFailed:
    return UpstreamFailed("an answer that is not as long as it should be")


def _reset(code: int) -> UpstreamFailed:
    """REFUSED_STREAM was not looked at and is safe to repeat (RFC 9113 8.7)."""
    if code == ErrorCodes.REFUSED_STREAM:
        return Disconnected("the server refused the stream")
    return UpstreamFailed("the server reset the stream")
