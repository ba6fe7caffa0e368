"""A streaming call of gRPC, octet by octet, and beside servers that do not keep to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import h2.config
import h2.connection
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.grpc import UNKNOWN, StreamingCall

ANSWER = [(":status", "200"), ("content-type", "application/grpc")]


class Server:
    def __init__(self) -> None:
        self.call = StreamingCall("/service/method", [("key", "value")], b"request")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.events = self.h2.receive_data(self.call.take())

    def say(self, *messages: bytes) -> bytes:
        for message in messages:
            self.h2.send_data(1, b"\0" + len(message).to_bytes(4) + message)
        return self.h2.data_to_send()


@pytest.fixture
def server() -> Server:
    return Server()


def test_the_request(server: Server) -> None:
    headers = dict(server.events[1].headers)
    assert headers[":path"] == "/service/method"
    assert (headers["content-type"], headers["te"], headers["key"]) == ("application/grpc", "trailers", "value")
    assert server.events[2].data == b"\0\0\0\0\7request"


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_messages_in_pieces(server: Server, step: int) -> None:
    server.h2.send_headers(1, ANSWER)
    octets = server.say(b"", b"one", b"x" * 5000)
    found = []
    for at in range(0, len(octets), step):
        found += server.call.receive_untrusted(octets[at : at + step])
    assert found == [b"", b"one", b"x" * 5000]
    assert server.call.ended is None


def test_windows_are_opened_again(server: Server) -> None:
    server.h2.send_headers(1, ANSWER)
    for _ in range(50):
        assert server.call.receive_untrusted(server.say(b"x" * 15000)) == [b"x" * 15000]
        server.h2.receive_data(server.call.take())


def test_the_status_in_trailers_comes_after_the_messages(server: Server) -> None:
    server.h2.send_headers(1, ANSWER)
    server.h2.send_data(1, b"\0\0\0\0\1a")
    server.h2.send_headers(1, [("grpc-status", "14"), ("grpc-message", "gone%20away")], end_stream=True)
    assert server.call.receive_untrusted(server.h2.data_to_send()) == [b"a"]
    assert server.call.ended is not None
    assert (server.call.ended.status, str(server.call.ended)) == (14, "gone away")


def close(server: Server) -> None:
    server.h2.close_connection()


def reset(server: Server) -> None:
    server.h2.reset_stream(1)


def not_found(server: Server) -> None:
    server.h2.send_headers(1, [(":status", "404")], end_stream=True)


def strange(server: Server) -> None:
    server.h2.send_headers(1, [*ANSWER, ("grpc-status", "²")], end_stream=True)


@pytest.mark.parametrize(
    ("end", "why"),
    [(close, "broken off"), (reset, "broken off"), (not_found, "HTTP status 404"), (strange, "status 2 of gRPC")],
)
def test_other_ends(server: Server, end: Callable[[Server], None], why: str) -> None:
    end(server)
    assert server.call.receive_untrusted(server.h2.data_to_send()) == []
    assert server.call.ended is not None
    assert server.call.ended.status == UNKNOWN
    assert why in str(server.call.ended)


@pytest.mark.parametrize("octets", [b"\1\0\0\0\0", b"\0\xff\0\0\0"])
def test_compressed_or_huge_messages_are_refused(server: Server, octets: bytes) -> None:
    server.h2.send_headers(1, ANSWER)
    server.h2.send_data(1, octets)
    with pytest.raises(MalformedMessage, match="compressed or too large"):
        server.call.receive_untrusted(server.h2.data_to_send())


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_garbage_is_malformed_or_ends_the_call(chunks: list[bytes], polite: bool) -> None:
    server = Server()
    if polite:
        server.h2.send_headers(1, ANSWER)
        server.call.receive_untrusted(server.h2.data_to_send())
    with suppress(MalformedMessage):
        for chunk in chunks:
            server.call.receive_untrusted(chunk)
