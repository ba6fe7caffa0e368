import struct
from functools import partial
from ipaddress import ip_address, ip_network

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from dohproxy.errors import MalformedMessage
from dohproxy.listen.proxy_protocol import FIXED, MAX_REST, SIGNATURE, client_untrusted, receive, rest_untrusted
from dohproxy.listen.tcp import OPENING, ConnectionTable, TcpListener

LOOPBACK = (ip_network("127.0.0.0/8"),)


def header(client="192.0.2.9", command=1, family=None, more=b"", size=None):
    address = ip_address(client)
    rest = address.packed * 2 + struct.pack("!HH", 4711, 53) + more
    kind = family if family is not None else (0x11 if address.version == 4 else 0x21)
    return SIGNATURE + bytes((0x20 | command, kind)) + (len(rest) if size is None else size).to_bytes(2) + rest


def client_in(octets):
    fixed = octets[:FIXED]
    return client_untrusted(fixed, octets[FIXED : FIXED + rest_untrusted(fixed)])


@pytest.mark.parametrize("client", ["192.0.2.9", "2001:db8::1"])
def test_the_client(client):
    assert client_in(header(client)) == client
    assert client_in(header(client, more=b"\x04\0\x03abc")) == client


def test_ipv4_within_ipv6_is_ipv4():
    assert client_in(header("::ffff:192.0.2.9")) == "192.0.2.9"


def test_the_balancer_itself():
    assert client_in(header(command=0)) == ""
    assert client_in(SIGNATURE + b"\x20\0\0\0") == ""


@pytest.mark.parametrize(
    "octets",
    [
        b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 53\r\n",
        header(command=2),
        SIGNATURE + b"\x11" + header()[13:],
        header(family=0x00),
        header(family=0x31),
        header(family=0x12),
        header(family=0x21),
        header(size=11)[: FIXED + 11],
        header(more=bytes(MAX_REST)),
        bytes(FIXED),
    ],
)
def test_what_tells_of_no_client(octets):
    with pytest.raises(MalformedMessage):
        client_in(octets)


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda rest: SIGNATURE + b"\x21" + rest))
def test_any_octets(octets):
    fixed = octets[:FIXED].ljust(FIXED, b"\0")
    try:
        rest_untrusted(fixed)
        assert str(ip_address(client_untrusted(fixed, octets[FIXED:]) or "::"))
    except MalformedMessage:
        pass


async def test_the_stream_is_left_behind_the_header(nursery):
    client, ours = memory_stream_pair()
    for octet in header(more=b"\x04\0\x01x") + b"what follows":
        await client.send_all(bytes([octet]))
    assert await receive(ours, "127.0.0.1") == "192.0.2.9"
    assert await ours.receive_some() == b"what follows"


@pytest.fixture
def balanced(listening, make_intake, nursery):
    """A listener that takes the word of these networks."""

    def start(networks=LOOPBACK):
        sock = listening("tcp")
        intake = make_intake(proxy_protocol=networks)
        listener = TcpListener(sock, intake, ConnectionTable(intake.limits, intake.counters))
        nursery.start_soon(listener.run)
        return intake, partial(trio.open_tcp_stream, *sock.getsockname())

    return start


async def test_a_query_is_the_clients_and_not_the_balancers(balanced, front):
    _, connect = balanced()
    async with await connect() as stream:
        await stream.send_all(header() + b"\0\x0c" + b"query".ljust(12))
        assert (await stream.receive_some())[2:].rstrip() == b"QUERY"
    assert front.asked[0][1] == "192.0.2.9"


async def test_without_a_header_the_balancer_is_not_served(balanced, front):
    intake, connect = balanced()
    async with await connect() as stream:
        await stream.send_all(b"\0\x0c" + b"query".ljust(12))
        with pytest.raises(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
            raise trio.BrokenResourceError
    assert not front.asked and intake.counters.tcp_broken == 1


async def test_others_tell_no_addresses(balanced, front):
    _, connect = balanced((ip_network("192.0.2.0/24"),))
    async with await connect() as stream:
        await stream.send_all(b"\0\x0c" + b"query".ljust(12))
        assert (await stream.receive_some())[2:].rstrip() == b"QUERY"
    assert front.asked[0][1] == "127.0.0.1"


async def test_half_a_header_is_not_waited_for_long(balanced, autojump_clock):
    intake, connect = balanced()
    async with await connect() as stream:
        await stream.send_all(header()[:20])
        before = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - before == pytest.approx(OPENING, abs=0.1)
    assert intake.counters.tcp_broken == 1
