"""HTTP/1.1, the server's side, on h11: one request after the other, on a connection that is kept (RFC 9112)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

import h11

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.doh_request import MOST_HEADERS, Fields, Head, head_untrusted, refusal
from dohproxy.protocol.http2_server import Request
from dohproxy.wire.constants import MAX_MESSAGE

MOST_AHEAD: Final = 65536
"""Octets of requests that may come before the one ahead of them is answered."""
_ORIGIN: Final = re.compile(rb"^https?://[^/?#]*", re.IGNORECASE)


class Http1Server:
    """One connection. Requests that come before the one ahead is answered wait until `ready` is asked for them."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADERS)
        self._ahead = b""
        self._head: Head | None = None
        self._body = b""
        self._number = 0
        self._asked = False
        self._outgoing: list[bytes] = []
        self.withdrawn: list[int] = []
        """Nobody can withdraw a request here."""
        self.closing = False
        """Whether no more requests are taken."""

    @property
    def open(self) -> int:
        """How many requests have begun whose answers have not left."""
        return int(self._asked or self._head is not None)

    def take(self) -> bytes:
        """The octets to send, once only."""
        outgoing, self._outgoing = self._outgoing, []
        return b"".join(outgoing)

    def receive_untrusted(self, data: bytes) -> list[Request]:
        """The request that these octets complete.

        Raises MalformedMessage where the connection has to end; what there is to take then says why.
        """
        if self._asked:
            self._ahead += data
            if len(self._ahead) > MOST_AHEAD:
                raise MalformedMessage("HTTP/1.1: too many requests at once")
            return []
        if data:
            self._h11.receive_data(data)
        try:
            return self._advance()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)
            raise MalformedMessage(f"HTTP/1.1: {error}") from error
        except MalformedMessage:
            self._refuse(400)
            raise

    def ready(self) -> list[Request]:
        """The request that came behind one that is answered now. Raises as `receive_untrusted`."""
        if self._asked or self.closing:
            return []
        ahead, self._ahead = self._ahead, b""
        return self.receive_untrusted(ahead)

    def _advance(self) -> list[Request]:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_MESSAGE:
                    self._refuse(413)
                    raise MalformedMessage("HTTP/1.1: a body that is too long")
            elif isinstance(event, h11.EndOfMessage):
                return [self._complete()]
            else:
                return []

    def _begin(self, event: h11.Request) -> None:
        """Of a body's length there must not be two accounts, which others may read differently (RFC 9112 6.1, 11.2)."""
        names = [name for name, _ in event.headers]
        if b"transfer-encoding" in names and b"content-length" in names:
            raise MalformedMessage("HTTP/1.1: two accounts of a body's length")
        target = _ORIGIN.sub(b"", event.target)
        self._head = head_untrusted([(b":method", event.method), (b":path", target), *event.headers])
        if self._h11.they_are_waiting_for_100_continue:
            self._put(h11.InformationalResponse(status_code=100, headers=[]))

    def _complete(self) -> Request:
        assert self._head is not None
        request = Request(self._number, self._head, self._body)
        self._head, self._body, self._asked = None, b"", True
        return request

    def respond(self, stream: int, fields: Fields, body: bytes) -> None:
        """Answer the request; of a HEAD request the body is b""."""
        if stream != self._number:
            return
        headers = [*fields[1:], (b"connection", b"close")] if self.closing else list(fields[1:])
        self._put(_response(int(fields[0][1]), headers))
        if body:
            self._put(h11.Data(data=body))
        self._put(h11.EndOfMessage())
        self._asked = False
        self._number += 1
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        else:
            self.closing = True

    def _refuse(self, status: int) -> None:
        """Tell why the connection ends, unless that is known."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or self.closing:
            return
        response = refusal(status)
        self.closing = True
        self._put(_response(status, [*response.fields[1:], (b"connection", b"close")]))
        if self._head is None or self._head.method != b"HEAD":
            self._put(h11.Data(data=response.body))
        self._put(h11.EndOfMessage())

    def leave(self) -> None:
        """Take no more requests; the one under way is still answered."""
        self.closing = True

    def _put(self, event: h11.Event) -> None:
        if octets := self._h11.send(event):
            self._outgoing.append(octets)


def _response(status: int, headers: list[tuple[bytes, bytes]]) -> h11.Response:
    return h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())
