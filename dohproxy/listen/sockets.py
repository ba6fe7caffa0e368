"""The listening sockets: bound from the configuration, or handed over by the service manager."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
from contextlib import suppress

from msgspec import Struct

from dohproxy.config.settings import Endpoint, Listen
from dohproxy.core.pktinfo import ask_for_packet_info, wants_packet_info
from dohproxy.errors import DohproxyError

log = logging.getLogger(__name__)

BACKLOG = 1024

# Linux; not in the socket module of Python 3.11.
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
IP_MTU_DISCOVER, IP_PMTUDISC_OMIT = 10, 5
IPV6_MTU_DISCOVER = 23
IP_PMTUDISC_PROBE = 3

KEYS = ("udp", "tcp", "dot", "doh", "doh3", "doq")
"""Of [listen], and what Sockets has."""
DATAGRAMS = frozenset({"udp", "doh3", "doq"})
QUIC = frozenset({"doh3", "doq"})

REASONS = {
    errno.EADDRINUSE: "another program listens there already",
    errno.EACCES: "ports below 1024 need root, CAP_NET_BIND_SERVICE or socket activation",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EAFNOSUPPORT: "this machine does not speak that version of IP",
}
NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class ListenError(DohproxyError):
    """An endpoint that cannot be listened on; the text names the key and what may be done."""


class Sockets(Struct, frozen=True):
    """All that is listened on, non-blocking and ready."""

    udp: list[socket.socket] = []
    tcp: list[socket.socket] = []
    dot: list[socket.socket] = []
    doh: list[socket.socket] = []
    doh3: list[socket.socket] = []
    doq: list[socket.socket] = []

    def all(self) -> list[socket.socket]:
        """In the order of KEYS."""
        return [sock for key in KEYS for sock in getattr(self, key)]

    def close(self) -> None:
        """Close them all."""
        for sock in self.all():
            sock.close()


DESCRIPTORS = 65536
"""Ample for all connections that may be configured."""


def allow_descriptors() -> None:
    """Have as many open files as the system grants: the 1024 of a shell are for programs that still use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_sockets(listen: Listen, passed: tuple[socket.socket, ...] = ()) -> Sockets:
    """A socket for every endpoint: from `passed` where one fits, otherwise bound now. Raises ListenError.

    Passed sockets that no endpoint asks for are closed, and that is said.
    """
    return open_for_workers(listen, 1, passed)[0]


def open_for_workers(listen: Listen, count: int, passed: tuple[socket.socket, ...] = ()) -> list[Sockets]:
    """The same for so many workers: those of TCP are shared, for UDP each has its own, with a queue of its own.

    The kernel spreads datagrams over them (SO_REUSEPORT, socket(7)), as `steering` says. One that was passed has no
    equals, and is shared. QUIC is for the first worker alone: a client that moves keeps its connection,
    and its datagrams would come to another (RFC 9000 9).
    """
    allow_descriptors()
    pool = list(passed)
    first = Sockets()
    own: list[list[socket.socket]] = [[] for _ in range(count - 1)]
    try:
        for key in KEYS:
            _open_all(key, listen, pool, getattr(first, key), own if key == "udp" else [])
    except ListenError:
        first.close()
        for sock in [sock for socks in own for sock in socks]:
            sock.close()
        raise
    finally:
        _close_unasked(pool)
    for key in KEYS:
        for sock in getattr(first, key):
            log.info("listening on %s (%s)", _address(sock), key)
    return [first, *(Sockets(udp=udp, tcp=first.tcp, dot=first.dot, doh=first.doh) for udp in own)]


def _close_unasked(pool: list[socket.socket]) -> None:
    for sock in pool:
        log.warning(
            "the service manager passed a socket that no endpoint of [listen] asks for: %s (%s)", _address(sock), _kind(sock)
        )
        sock.close()


def _open_all(
    key: str, listen: Listen, pool: list[socket.socket], opened: list[socket.socket], others: list[list[socket.socket]]
) -> None:
    endpoints: tuple[Endpoint, ...] = getattr(listen, key)
    optional = endpoints == getattr(Listen(), key)
    for endpoint in endpoints:
        if socks := _open(key, endpoint, listen, pool, optional, more=len(others)):
            for place, sock in zip((opened, *others), socks, strict=True):
                place.append(sock)


def _open(
    key: str, endpoint: Endpoint, listen: Listen, pool: list[socket.socket], optional: bool, *, more: int
) -> list[socket.socket]:
    """The endpoint's socket, and `more` beside it; [] for IPv6 of the built-in default on a machine without it."""
    kind = socket.SOCK_DGRAM if key in DATAGRAMS else socket.SOCK_STREAM
    try:
        sock = _take(pool, kind, endpoint)
        socks = [sock] * (1 + more) if sock else _bind_alike(kind, endpoint, 1 + more)
    except OSError as error:
        if optional and ":" in endpoint.address and error.errno in NO_IPV6:
            log.info("not listening on %s (%s): no IPv6 on this machine", endpoint, key)
            return []
        reason = REASONS.get(error.errno or 0, "")
        raise ListenError(f'listen.{key} "{endpoint}": {error.strerror}' + (f" ({reason})" if reason else "")) from None
    for sock in socks:
        sock.setblocking(False)
        if kind == socket.SOCK_DGRAM:
            _tune_udp(sock, listen.socket_buffer, IP_PMTUDISC_PROBE if key in QUIC else IP_PMTUDISC_OMIT)
    return socks


def _take(pool: list[socket.socket], kind: int, endpoint: Endpoint) -> socket.socket | None:
    """Take the socket of this kind and address out of the pool."""
    for sock in pool:
        if sock.type == kind and sock.getsockname()[:2] == (endpoint.address, endpoint.port):
            pool.remove(sock)
            _refuse_dual_stack(sock, endpoint)
            return sock
    return None


def _refuse_dual_stack(sock: socket.socket, endpoint: Endpoint) -> None:
    """On such a socket IPv4 clients would have IPv6 addresses, which no access list has in mind."""
    if endpoint.address == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        raise ListenError(f'the socket passed for "{endpoint}" takes IPv4 too: set BindIPv6Only=ipv6-only in its unit')


def _bind_alike(kind: int, endpoint: Endpoint, count: int) -> list[socket.socket]:
    """So many sockets of one address. Another program's socket there is an error, even if it would let us share."""
    first = _bind(kind, endpoint)
    if count == 1:
        return [first]
    port = first.getsockname()[1]
    first.close()
    socks: list[socket.socket] = []
    try:
        for _ in range(count):
            socks.append(_bind(kind, Endpoint(endpoint.address, port), shared=True))  # noqa: PERF401 -- closed on failure
    except OSError:
        for sock in socks:
            sock.close()
        raise
    return socks


def _bind(kind: int, endpoint: Endpoint, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for TIME_WAIT
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(socket.getaddrinfo(endpoint.address, endpoint.port, family, kind, 0, socket.AI_NUMERICHOST)[0][4])
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _tune_udp(sock: socket.socket, size: int, discovery: int) -> None:
    _set_buffer(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF, size)
    _set_buffer(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, size)
    _ignore_path_mtu(sock, discovery)
    if wants_packet_info(sock):
        ask_for_packet_info(sock)


def _set_buffer(sock: socket.socket, force: int, ordinary: int, size: int) -> None:
    """Set a buffer's size beyond the system's limit if we may, and as far as the limit if not."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except OSError:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, ordinary, size)


def _ignore_path_mtu(sock: socket.socket, discovery: int) -> None:
    """Do not believe forged path MTUs: datagrams are small enough as they are.

    Replies of DNS may be fragmented on their way, and are not by us (RFC 9715 3.1); QUIC's must never be (RFC 9000 14).
    """
    level, option = (
        (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER) if sock.family == socket.AF_INET6 else (socket.IPPROTO_IP, IP_MTU_DISCOVER)
    )
    with suppress(OSError):  # an old kernel: as it was
        sock.setsockopt(level, option, discovery)


def _kind(sock: socket.socket) -> str:
    return {socket.SOCK_DGRAM: "udp", socket.SOCK_STREAM: "tcp"}.get(sock.type, "other")


def _address(sock: socket.socket) -> str:
    name = sock.getsockname()
    return str(Endpoint(name[0], name[1])) if isinstance(name, tuple) else os.fsdecode(name)
