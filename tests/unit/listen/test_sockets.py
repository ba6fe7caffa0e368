import logging
import os
import resource
import socket
from pathlib import Path

import pytest

from dohproxy.config.settings import Endpoint, Listen
from dohproxy.listen import sockets
from dohproxy.listen.sockets import ListenError, allow_descriptors, open_for_workers, open_sockets

PORT_0 = (Endpoint("127.0.0.1", 0),)


@pytest.fixture
def opened():
    """Open sockets that are closed at the end."""
    all_ = []

    def open_(*args):
        all_.append(open_sockets(*args))
        return all_[-1]

    yield open_
    for found in all_:
        found.close()


def bound(kind, address="127.0.0.1", family=socket.AF_INET):
    sock = socket.socket(family, kind)
    sock.bind((address, 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def endpoint(sock):
    return Endpoint(*sock.getsockname()[:2])


def test_binds_every_endpoint(opened):
    found = opened(Listen(udp=(*PORT_0, Endpoint("::1", 0)), tcp=PORT_0))
    assert [(s.family, s.type, s.getblocking()) for s in found.udp + found.tcp] == [
        (socket.AF_INET, socket.SOCK_DGRAM, False),
        (socket.AF_INET6, socket.SOCK_DGRAM, False),
        (socket.AF_INET, socket.SOCK_STREAM, False),
    ]
    assert found.tcp[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_both_wildcards_can_have_the_same_port(opened):
    first = opened(Listen(udp=(Endpoint("0.0.0.0", 0),), tcp=()))
    port = first.udp[0].getsockname()[1]
    opened(Listen(udp=(Endpoint("::", port),), tcp=()))


def test_udp_has_a_large_buffer_and_is_never_fragmented(opened):
    [sock] = opened(Listen(udp=PORT_0, tcp=(), socket_buffer=300_000)).udp
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    expected = 600_000 if os.geteuid() == 0 else 2 * min(300_000, limit)  # the kernel doubles it for its own needs
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= expected
    assert sock.getsockopt(socket.IPPROTO_IP, sockets.IP_MTU_DISCOVER) == sockets.IP_PMTUDISC_OMIT


@pytest.mark.parametrize(("key", "kind"), [("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)])
def test_address_in_use_names_the_key_and_closes_what_was_opened(key, kind):
    with bound(kind) as sock:
        taken = endpoint(sock)
        listen = Listen(**{"udp": PORT_0, "tcp": ()} | {key: (*PORT_0, taken)})
        with pytest.raises(ListenError) as caught:
            open_sockets(listen)
    assert str(caught.value) == (f'listen.{key} "{taken}": Address already in use (another program listens there already)')


def test_an_address_that_is_not_ours():
    with pytest.raises(ListenError, match=r'^listen.udp "192.0.2.1:0": Cannot assign.* \(this machine has no such address\)'):
        open_sockets(Listen(udp=(Endpoint("192.0.2.1", 0),), tcp=()))


def test_no_permission(monkeypatch):
    def bind(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sockets, "_bind", bind)
    with pytest.raises(ListenError, match=r'^listen.tcp "127.0.0.1:53": Permission denied \(ports below 1024 need root'):
        open_sockets(Listen(udp=(), tcp=(Endpoint("127.0.0.1", 53),)))


@pytest.fixture
def no_ipv6(monkeypatch):
    bind = sockets._bind

    def without_ipv6(kind, endpoint):
        if ":" in endpoint.address:
            raise OSError(99, "Cannot assign requested address")
        return bind(kind, Endpoint(endpoint.address, 0))

    monkeypatch.setattr(sockets, "_bind", without_ipv6)


def test_the_default_does_without_ipv6_where_there_is_none(opened, no_ipv6, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dohproxy"), "propagate", True)
    caplog.set_level("INFO")
    found = opened(Listen())
    assert [len(found.udp), len(found.tcp)] == [1, 1]
    assert "not listening on [::1]:5300 (udp): no IPv6 on this machine" in caplog.messages


def test_a_configured_ipv6_address_must_be_there(no_ipv6):
    with pytest.raises(ListenError):
        open_sockets(Listen(udp=(Endpoint("::1", 5300),)))


def test_passed_sockets_are_used_where_they_fit(opened, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dohproxy"), "propagate", True)
    udp, tcp, other = bound(socket.SOCK_DGRAM), bound(socket.SOCK_STREAM), bound(socket.SOCK_DGRAM)
    unasked = endpoint(other)
    found = opened(Listen(udp=(endpoint(udp),), tcp=(endpoint(tcp), *PORT_0)), (tcp, other, udp))
    assert found.udp == [udp]
    assert found.tcp[0] is tcp and len(found.tcp) == 2
    assert other.fileno() == -1
    assert f"the service manager passed a socket that no endpoint of [listen] asks for: {unasked} (udp)" in caplog.messages


def test_a_passed_socket_for_both_versions_of_ip_is_refused():
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    with sock, pytest.raises(ListenError, match="BindIPv6Only=ipv6-only"):
        open_sockets(Listen(udp=(endpoint(sock),), tcp=()), (sock,))


def test_as_many_descriptors_as_the_system_grants(monkeypatch):
    granted = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: granted.append(limits))
    for limits in ((1024, 4096), (1024, resource.RLIM_INFINITY), (1024, 1 << 20), (4096, 4096), (resource.RLIM_INFINITY,) * 2):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        allow_descriptors()
    assert granted == [(4096, 4096), (65536, resource.RLIM_INFINITY), (65536, 1 << 20)]


def test_encrypted_listeners_have_sockets_of_their_own(opened):
    found = opened(Listen(udp=(), tcp=(), dot=PORT_0, doh=PORT_0, doh3=PORT_0, doq=PORT_0))
    kinds = [[sock.type for sock in getattr(found, key)] for key in sockets.KEYS]
    stream, datagram = [socket.SOCK_STREAM], [socket.SOCK_DGRAM]
    assert kinds == [[], [], stream, stream, datagram, datagram]
    assert found.doq[0].getsockopt(socket.IPPROTO_IP, sockets.IP_MTU_DISCOVER) == sockets.IP_PMTUDISC_PROBE


def test_quic_is_for_the_first_worker_alone():
    first, second = open_for_workers(Listen(udp=PORT_0, tcp=PORT_0, dot=PORT_0, doh=PORT_0, doh3=PORT_0, doq=PORT_0), 2)
    try:
        assert [len(first.doh3), len(first.doq), len(second.doh3), len(second.doq)] == [1, 1, 0, 0]
        assert (second.tcp, second.dot, second.doh) == (first.tcp, first.dot, first.doh)
        assert second.udp[0] is not first.udp[0]
    finally:
        first.close()
        second.close()
