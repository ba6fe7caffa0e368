"""A DNS question as an HTTP request and its answer as a response, for HTTP/2 and HTTP/3 alike (RFC 8484)."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Final, Protocol

from dohproxy.errors import UpstreamFailed
from dohproxy.protocol.session import answers
from dohproxy.wire.constants import MAX_MESSAGE

MEDIA_TYPE: Final = b"application/dns-message"
ID: Final = b"\0\0"
"""Of all queries, so that equal ones are equal octets to HTTP caches (RFC 8484 4.1)."""

Headers = list[tuple[bytes, bytes]]


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

    def request(self, query: bytes, question: bytes) -> tuple[Headers, bytes, Response]:
        """Headers and body of the request with this query, and what takes its response."""
        return self.headers(query), query if self.post else b"", Response(question)

    def headers(self, query: bytes) -> Headers:
        """Of the request with this query, which is its body if it is a POST."""
        return self._post_headers(len(query)) if self.post else self._get_headers(query)

    def _post_headers(self, size: int) -> Headers:
        return [
            (b":method", b"POST"),
            (b":path", self._path),
            *self._fixed,
            (b"content-type", MEDIA_TYPE),
            (b"content-length", b"%d" % size),
        ]

    def _get_headers(self, query: bytes) -> Headers:
        """With the query as base64url without padding characters (RFC 8484 6)."""
        mark = b"&" if b"?" in self._path else b"?"
        path = self._path + mark + b"dns=" + urlsafe_b64encode(query).rstrip(b"=")
        return [(b":method", b"GET"), (b":path", path), *self._fixed]


class Response:
    """What has come back for one question so far."""

    __slots__ = ("_body", "_question", "_size", "age")

    media_type = MEDIA_TYPE
    limit = MAX_MESSAGE

    def __init__(self, question: bytes) -> None:
        self.age = 0
        """Seconds that the answer has spent in caches (RFC 8484 5.1)."""
        self._question = question
        self._body: list[bytes] = []
        self._size = 0

    def begin(self, headers: Mapping[bytes, bytes]) -> UpstreamFailed | None:
        """Takes the headers; why there will be no answer, if so."""
        status = headers.get(b":status", b"?")
        if status != b"200":
            return UpstreamFailed(f"HTTP status {status.decode('ascii', 'replace')}")
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != self.media_type:
            return UpstreamFailed(f"an answer that is no {self.media_type.decode()}")
        age = headers.get(b"age", b"")
        self.age = int(age) if age.isdigit() and len(age) < 10 else 0
        return None

    def add(self, data: bytes) -> UpstreamFailed | None:
        """Takes a piece of the body; why there will be no answer, if so."""
        self._body.append(data)
        self._size += len(data)
        return UpstreamFailed("an answer over 65535 octets") if self._size > self.limit else None

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
