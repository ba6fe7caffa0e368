"""How the compiled core sends: what may leave as one message, and what becomes of it where it may not."""

import socket

import pytest

from dohproxy.core.pktinfo import ask_for_packet_info, wants_packet_info
from dohproxy.telemetry.counters import Counters

compiled = pytest.importorskip("dohproxy.core._compiled", reason="the core is not compiled")

UDP_GRO = 104
"""Of a socket that is given as one what came as one message (udp(7))."""
SO_NO_CHECK, IPV6_MTU = 11, 24
"""Without checksums nothing is cut, nor into what does not fit into a packet."""


@pytest.fixture(params=[("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2"), ("::1", "::1"), ("::", "::1")])
def pair(request):
    """A server, a client that sees which datagrams left together, and what takes the server's."""
    bound, asked = request.param
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((bound, 0))
        wildcard = wants_packet_info(server)
        if wildcard:
            ask_for_packet_info(server)
        client.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        client.settimeout(5)
        client.connect((asked, server.getsockname()[1]))
        recall, counters = compiled.Recaller(lambda: 0.0, print), Counters()
        yield server, client, compiled.Datagrams(server, recall, counters, wildcard), counters


def origin_of(client, datagrams):
    client.send(b"?")
    [(_, _, origin)] = datagrams.take()
    return origin


def test_replies_in_a_row_that_are_alike_leave_as_one_message(pair):
    _, client, datagrams, counters = pair
    origin = origin_of(client, datagrams)
    texts = [b"%d" % n * 20 for n in range(4)] + [b"other"] * 2 + [b"%d" % n * 20 for n in range(3)]
    datagrams.send([(origin, text) for text in texts])
    got = [client.recv(65535) for _ in range(4)]
    assert got == [b"".join(texts[:4]), b"other", b"other", b"".join(texts[6:])]
    assert counters.send_errors == 0


def test_a_message_is_no_longer_than_the_kernel_takes(pair):
    _, client, datagrams, counters = pair
    origin = origin_of(client, datagrams)
    texts = [b"%02d" % n * 600 for n in range(64)]
    datagrams.send([(origin, text) for text in texts])
    got = [client.recv(65535) for _ in range(2)]
    assert got == [b"".join(texts[:54]), b"".join(texts[54:])]
    assert counters.send_errors == 0


def test_what_the_kernel_does_not_cut_leaves_one_by_one(pair):
    server, client, datagrams, counters = pair
    origin = origin_of(client, datagrams)
    if server.family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU, 1280)
    else:
        server.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    texts = [b"%d" % n * 1300 for n in range(5)] + [b"other"]
    datagrams.send([(origin, text) for text in texts])
    assert [client.recv(65535) for _ in texts] == texts
    assert counters.send_errors == 0
    datagrams.send([(origin, bytes(65535))] * 3)  # which is too long for anything
    assert counters.send_errors == 3


def test_clients_get_what_is_theirs(pair):
    server, client, datagrams, _ = pair
    with socket.socket(server.family, socket.SOCK_DGRAM) as other:
        other.settimeout(5)
        other.connect(client.getpeername())
        ours, theirs = (origin_of(one, datagrams) for one in (client, other))
        datagrams.send([(ours, b"ours")] * 3 + [(theirs, b"them")] * 3 + [(ours, b"last")])
        assert [client.recv(65535) for _ in range(2)] == [3 * b"ours", b"last"]
        assert [other.recv(65535) for _ in range(3)] == [b"them"] * 3


@pytest.mark.parametrize("origin", [b"", bytes(15), bytes(200)])
def test_what_is_no_origin_is_told(pair, origin):
    _, _, datagrams, _ = pair
    with pytest.raises(ValueError, match="no origin"):
        datagrams.send([(origin, b"reply")])
