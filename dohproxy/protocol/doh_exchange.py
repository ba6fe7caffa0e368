"""A DNS question as an HTTP request and its answer as a response, for HTTP/2 and HTTP/3 alike (RFC 8484)."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Final, Protocol

from msgspec import Struct

from dohproxy.errors import UpstreamFailed
from dohproxy.model import Question
from dohproxy.protocol.session import answers
from dohproxy.wire.constants import MAX_MESSAGE
from dohproxy.wire.quick import framed_query

MEDIA_TYPE: Final = b"application/dns-message"
ID: Final = b"\0\0"
"""Of all queries, so that equal ones are equal octets to HTTP caches (RFC 8484 4.1)."""

_PAD_TO: Final = 128

Headers = list[tuple[bytes, bytes]]


def query_in_request(question: Question, *, cd: bool) -> bytes:
    """What a request asks, padded (RFC 8467 4.1)."""
    return framed_query(question, 0, cd=cd, pad_to=_PAD_TO)[2:]


class ResponseHead(Struct, frozen=True, gc=False):
    """What the headers of a response say that matters to us; made once where many responses have the same."""

    status: bytes
    media: bytes
    """The media type, in lower case and without parameters."""
    age: int
    """Seconds that the answer has spent in caches (RFC 8484 5.1)."""
    length: int | None
    """Octets of the body, if that is said."""
    alt_svc: bytes | None

    @property
    def is_interim(self) -> bool:
        """Whether the response is yet to come (RFC 9110 15.2)."""
        return self.status[:1] == b"1" and len(self.status) == 3


def response_head(fields: Iterable[tuple[bytes, bytes]]) -> ResponseHead:
    """Of headers with the same name the last counts; what should be a number and is none is not there."""
    headers = dict(fields)
    return ResponseHead(
        status=headers.get(b":status", b"?"),
        media=headers.get(b"content-type", b"").partition(b";")[0].strip().lower(),
        age=_number(headers.get(b"age", b"")) or 0,
        length=_number(headers.get(b"content-length", b"")),
        alt_svc=headers.get(b"alt-svc"),
    )


class Wrapping(Protocol):
    """How a question is put into a request."""

    @property
    def post(self) -> bool:
        """Whether requests have bodies."""
        ...

    @property
    def spent(self) -> bool:
        """Whether no more requests may be made."""
        ...

    def request(self, query: bytes, question: bytes) -> tuple[Headers, bytes, Response]:
        """Headers and body of the request with this query, and what takes its response; the question as its octets."""
        ...


class Requests:
    """Makes requests; `authority` and `path` are those of the URL, `method` is POST or GET.

    The path is what the URI template gives without a DNS message (RFC 8484 4.1.1), with a query if it has one.
    """

    spent = False

    def __init__(self, authority: str, path: str, method: str = "POST") -> None:
        self.post = method == "POST"
        self._path = path.encode()
        self._fixed: Headers = [(b":scheme", b"https"), (b":authority", authority.encode()), (b"accept", MEDIA_TYPE)]
        self._made: dict[int, Headers] = {}
        """The headers of a POST by the size of its body: padding lets there be few of them."""

    def request(self, query: bytes, question: bytes) -> tuple[Headers, bytes, Response]:
        """Headers and body of the request with this query, and what takes its response."""
        return self.headers(query), query if self.post else b"", Response(question)

    def headers(self, query: bytes) -> Headers:
        """Of the request with this query, which is its body if it is a POST."""
        if not self.post:
            return self._get_headers(query)
        size = len(query)
        return self._made.get(size) or self._post_headers(size)

    def _post_headers(self, size: int) -> Headers:
        self._made[size] = headers = [
            (b":method", b"POST"),
            (b":path", self._path),
            *self._fixed,
            (b"content-type", MEDIA_TYPE),
            (b"content-length", b"%d" % size),
        ]
        return headers

    def _get_headers(self, query: bytes) -> Headers:
        """With the query as base64url without padding characters (RFC 8484 6)."""
        mark = b"&" if b"?" in self._path else b"?"
        path = self._path + mark + b"dns=" + urlsafe_b64encode(query).rstrip(b"=")
        return [(b":method", b"GET"), (b":path", path), *self._fixed]


class Response:
    """What has come back for one question so far."""

    __slots__ = ("_body", "_length", "_question", "_size", "age", "begun")

    media_type = MEDIA_TYPE
    limit = MAX_MESSAGE

    def __init__(self, question: bytes) -> None:
        self.age = 0
        """Seconds that the answer has spent in caches (RFC 8484 5.1)."""
        self.begun = False
        """Whether the headers of the response have come, for who has to know what are its trailers."""
        self._question = question
        self._length: int | None = None
        self._body: list[bytes] = []
        self._size = 0

    def begin(self, head: ResponseHead) -> UpstreamFailed | None:
        """Takes the headers; why there will be no answer, if so."""
        self.begun = True
        if head.status != b"200":
            return UpstreamFailed(f"HTTP status {head.status.decode('ascii', 'replace')}")
        if head.media != self.media_type:
            return UpstreamFailed(f"an answer that is no {self.media_type.decode()}")
        self.age, self._length = head.age, head.length
        return None

    def add(self, data: bytes) -> UpstreamFailed | None:
        """Takes a piece of the body; why there will be no answer, if so."""
        if data:  # there may be empty ones without end
            self._body.append(data)
            self._size += len(data)
        return UpstreamFailed("an answer over 65535 octets") if self._size > self.limit else None

    @property
    def is_whole(self) -> bool:
        """Whether there were headers, and as many octets as they said (RFC 9113 8.1.1)."""
        return self.begun and self._length in (None, self._size)

    def body(self) -> bytes:
        """As far as it has come."""
        return b"".join(self._body)

    def end(self) -> bytes | UpstreamFailed:
        """The answer, once the body is complete."""
        return self.checked(self.body())

    def checked(self, message: bytes) -> bytes | UpstreamFailed:
        """The message, if it answers the question."""
        if message[:2] != ID or not answers(message, self._question):
            return UpstreamFailed("an answer to another question")
        return message


def _number(text: bytes) -> int | None:
    """What a header says in digits, if it does."""
    return int(text) if text.isdigit() and len(text) < 10 else None
