"""HTTP/3 as a client reads it, by hand: what is remembered of servers, and where they say goodbye."""

from aioquic.h3.connection import FrameType, encode_frame
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

from dohproxy.protocol.http3 import Http3
from dohproxy.protocol.quic_client import ClientConnection

STATUS_200 = b"\0\0\xd9"
"""By the static table alone (RFC 9204, appendix A)."""


def http():
    configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="dns.test")
    return Http3(ClientConnection(configuration, lambda *_: None, keep_ticket=lambda _: None, keep_token=lambda _: None))


def response(stream, block):
    data = encode_frame(FrameType.HEADERS, block) + encode_frame(FrameType.DATA, b"x")
    return StreamDataReceived(data=data, end_stream=True, stream_id=stream)


def test_large_headers_are_not_remembered():
    client = http()
    for n in range(50):
        value = b"%08d" % n * 1000
        block = STATUS_200 + b"\x27\0alt-svc\x7f\xc1\x3d" + value
        head, _ = client.whole(response(4 * n, block))
        assert head.alt_svc == value
    client.whole(response(400, STATUS_200))
    assert list(client._meanings) == [STATUS_200]


def test_a_stream_is_known_by_its_first_octet():
    client = http()
    grease, control = (7, 3)
    pieces = [(grease, b""), (grease, b"\x21"), (grease, b"\0\7\1\0"), (control, b"\0\4\0"), (control, b"\7\1\4")]
    for stream, data in pieces:
        client._look_for_goaway(StreamDataReceived(data=data, end_stream=False, stream_id=stream))
    assert client.last_stream == 4
