"""What is fuzzed of what clients send to encrypted listeners, around TLS: HTTP of either version, and a balancer's header."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

from dohproxy.errors import MalformedMessage
from dohproxy.listen.proxy_protocol import FIXED, client_untrusted, rest_untrusted
from dohproxy.model import Question
from dohproxy.protocol.doh_request import Query, Site
from dohproxy.protocol.http1_server import Http1Server
from dohproxy.protocol.http2_reader import PREFACE
from dohproxy.protocol.http2_server import WINDOW, Http2Server, Request
from dohproxy.wire.padding import padded, wants_padding
from dohproxy.wire.query import build_query
from dohproxy.wire.reply import error_reply_for
from dohproxy.wire.request import parse_request_untrusted

STREAMS = 8
ROUNDS = 64
"""Requests in a row that wait for each other, more than which would be a loop."""
SITE = Site("/dns-query", json=True)
REPLY = padded(error_reply_for(parse_request_untrusted(build_query(Question(b"\1a\0", 1), 0, cd=False)), 2))
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def balancer(data: bytes) -> None:
    """A header of the PROXY protocol tells an address, or nothing."""
    fixed = data[:FIXED].ljust(FIXED, b"\0")
    with suppress(MalformedMessage):
        rest = data[FIXED : FIXED + rest_untrusted(fixed)]
        ip_address(client_untrusted(fixed, rest) or "::")


def http2(data: bytes) -> None:
    """As many requests as there may be are under way, no more is kept of bodies than a window, and frames are answered."""
    if not data:
        return
    server = Http2Server(STREAMS)
    octets = data[1:] if data[0] & 1 else PREFACE + SETTINGS + data[1:]
    _feed(server, octets, 1 + (data[0] >> 1))
    assert server.open <= STREAMS
    assert sum(begun.size for begun in server._streams.values() if not begun.asked) <= WINDOW
    assert len(server._reader._rest) <= 16384 + 9
    _check_frames(server.take())


def http1(data: bytes) -> None:
    """One request after the other, or none."""
    if data:
        _feed(Http1Server(), data[1:], 1 + (data[0] >> 1))


def _feed(server: Http2Server | Http1Server, octets: bytes, step: int) -> None:
    try:
        for at in range(0, len(octets), step):
            requests: Sequence[Request] = server.receive_untrusted(octets[at : at + step])
            for _ in range(ROUNDS):
                _answer(server, requests, at)
                requests = server.ready()
    except MalformedMessage:
        return


def _answer(server: Http2Server | Http1Server, requests: Sequence[Request], at: int) -> None:
    """Every other request at once, the others never."""
    for number, request in enumerate(requests):
        query = SITE.query_untrusted(request.head, request.body)
        response = SITE.response(query, REPLY) if isinstance(query, Query) else query
        body = b"" if request.head.method == b"HEAD" else response.body
        if isinstance(server, Http1Server) or (number + at) % 2:
            server.respond(request.stream, response.fields, body)


def _check_frames(octets: bytes) -> None:
    at = 0
    while at < len(octets):
        at += 9 + int.from_bytes(octets[at : at + 3])
    assert at == len(octets)


def run(data: bytes) -> None:
    """Whichever the first octet picks."""
    if data:
        (balancer, http2, http1, _padding)[data[0] % 4](data[1:])


def _padding(data: bytes) -> None:
    if wants_padding(data):
        parse_request_untrusted(data)
