"""HTTP requests as DNS queries and replies as HTTP responses, the server's side of every version of HTTP (RFC 8484)."""

from __future__ import annotations

from binascii import Error as NoBase64
from binascii import a2b_base64
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from dohproxy.errors import MalformedMessage
from dohproxy.wire.constants import HEADER_SIZE, MAX_MESSAGE
from dohproxy.wire.freshness import freshness
from dohproxy.wire.json_form import query_untrusted, reply_in_json

MEDIA_TYPE: Final = b"application/dns-message"
JSON: Final = b"application/dns-json"
TEXT: Final = b"text/plain; charset=utf-8"
MOST_HEADERS: Final = 16384
"""Octets of a request's headers, as HTTP/2 and HTTP/3 count them (RFC 9113 6.5.2)."""
MOST_PATH: Final = 8192
"""Octets of a request's target; a query in base64url is seldom over 400."""
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST"))
_KNOWN: Final = _METHODS | {b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"}
_URL_SAFE: Final = bytes.maketrans(b"-_+/", b"+/--")
"""To the alphabet that is decoded; what is in that alone becomes what is not in it at this place (RFC 4648 5)."""
_REASONS: Final = {
    400: "no DNS message could be made out",
    403: "not answered",
    404: "nothing here",
    405: "GET, HEAD and POST are understood",
    413: "no DNS message has more than 65535 octets",
    414: "the target is too long",
    415: "application/dns-message is understood",
    431: "too many headers",
    501: "unheard of",
}

Fields = tuple[tuple[bytes, bytes], ...]


class Head(NamedTuple):
    """What matters of a request's headers."""

    method: bytes
    target: bytes
    """Path and query."""
    media: bytes = b""
    """The body's type, in lower case and without parameters."""
    coded: bool = False
    """Whether the body is compressed, or the like."""
    length: int | None = None
    """Of the body, where it was told."""


class Query(NamedTuple):
    """A DNS query that came by HTTP."""

    wire: bytes
    json: bool = False
    """Whether the answer is wanted in JSON."""


class Response(NamedTuple):
    """An HTTP response, whatever the version."""

    status: int
    body: bytes
    media: bytes = TEXT
    max_age: int | None = None
    """Seconds for which caches may keep it; None is not at all."""
    elsewhere: bytes = b""
    """Where else the same is served: Alt-Svc (RFC 7838 3)."""

    @property
    def fields(self) -> Fields:
        """Status and headers, as HTTP/2 and HTTP/3 have them."""
        return _fields(self.status, self.media, len(self.body), self.max_age, self.elsewhere)


@lru_cache(4096)
def _fields(status: int, media: bytes, size: int, max_age: int | None, elsewhere: bytes) -> Fields:
    kept = b"no-store" if max_age is None else b"max-age=%d" % max_age
    more = ((b"allow", b"GET, HEAD, POST"),) if status == 405 else ((b"alt-svc", elsewhere),) if elsewhere else ()
    return (
        (b":status", b"%d" % status),
        (b"content-type", media),
        (b"content-length", b"%d" % size),
        (b"cache-control", kept),
        *more,
    )


def refusal(status: int) -> Response:
    """The response that tells of an error in the request."""
    return Response(status, f"{_REASONS.get(status, 'not understood')}\n".encode())


def head_untrusted(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """What matters of these headers, whose names are in lower case. Raises MalformedMessage where that contradicts itself."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _SINGLE and name in found:
            raise MalformedMessage(f"{name.decode()} is there twice")
        found[name] = value
    length = found.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 20):
        raise MalformedMessage("a length that is no number")
    return Head(
        found.get(b":method", b""),
        found.get(b":path", b""),
        found.get(b"content-type", b"").partition(b";")[0].strip().lower(),
        found.get(b"content-encoding", b"identity").lower() != b"identity",
        None if length is None else int(length),
    )


_SINGLE: Final = frozenset((b":method", b":path", b"content-length", b"content-type"))


class Site:
    """What is served: DNS at one path, in JSON too where wanted. `elsewhere`: the same, as Alt-Svc has it."""

    def __init__(self, path: str, *, json: bool = False, elsewhere: bytes = b"") -> None:
        self._path, self._json, self._elsewhere = path.encode(), json, elsewhere

    def query_untrusted(self, head: Head, body: bytes) -> Query | Response:
        """The query of a request, or the response to one that has none."""
        if head.method not in _METHODS:
            return refusal(405 if head.method in _KNOWN else 501)
        if len(head.target) > MOST_PATH:
            return refusal(414)
        path, _, parameters = head.target.partition(b"?")
        if path != self._path:
            return refusal(404)
        if head.method == b"POST":
            return self._posted(head, body)
        if parameters.startswith(b"dns=") and b"&" not in parameters:
            return _checked(_decoded(parameters[4:]))
        return self._got(parameters)

    def _posted(self, head: Head, body: bytes) -> Query | Response:
        if head.media != MEDIA_TYPE or head.coded:
            return refusal(415)
        if head.length is not None and head.length > MAX_MESSAGE:
            return refusal(413)
        return _checked(body)

    def _got(self, parameters: bytes) -> Query | Response:
        try:
            found = parse_qsl(parameters.decode("ascii"), keep_blank_values=True, max_num_fields=16)
        except ValueError:
            return refusal(400)
        given = dict(found)
        if len(given) != len(found):
            return refusal(400)
        if "dns" in given:
            return _checked(_decoded(given["dns"].encode()))
        if not self._json:
            return refusal(400)
        try:
            return Query(query_untrusted(given), json=True)
        except MalformedMessage:
            return refusal(400)

    def response(self, query: Query, reply: bytes) -> Response:
        """The response with this reply; b"" is silence, which HTTP does not know."""
        if not reply:
            return refusal(403)
        if query.json:
            return Response(200, reply_in_json(reply), JSON, freshness(reply), self._elsewhere)
        return Response(200, reply, MEDIA_TYPE, freshness(reply), self._elsewhere)


def _decoded(text: bytes) -> bytes:
    """Base64url, without padding characters (RFC 8484 6) or with them; b"" if it is none."""
    text = text.rstrip(b"=").translate(_URL_SAFE)
    try:
        return a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except NoBase64:
        return b""


def _checked(wire: bytes) -> Query | Response:
    """What can be no query at all is an error of HTTP already (RFC 8484 4.2.1)."""
    if len(wire) > MAX_MESSAGE:
        return refusal(413)
    return Query(wire) if len(wire) >= HEADER_SIZE and not wire[2] & 0x80 else refusal(400)
