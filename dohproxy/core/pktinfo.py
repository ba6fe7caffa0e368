"""Which local address a datagram was sent to, so that the answer leaves from it (ip(7) IP_PKTINFO, RFC 3542 6.2)."""

from __future__ import annotations

import socket

IP_PKTINFO = 8
"""Linux; the socket module has it from Python 3.12 on."""
WILDCARDS = ("0.0.0.0", "::")

Ancillary = list[tuple[int, int, bytes]]


def wants_packet_info(sock: socket.socket) -> bool:
    """Whether the socket is bound to a wildcard address, so that the kernel would choose the answer's source."""
    return sock.getsockname()[0] in WILDCARDS


def ask_for_packet_info(sock: socket.socket) -> None:
    """Have the kernel tell of each datagram which address it was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def reply_ancillary(received: Ancillary) -> Ancillary:
    """The ancillary data that makes an answer leave from the address that was asked.

    The interface is left to the routing table, as the way back need not be the way there; but for link-local addresses,
    which mean nothing without it.
    """
    for level, kind, info in received:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and len(info) == 12:
            return [(level, kind, bytes(4) + info[4:])]  # in_pktinfo: ifindex, spec_dst, addr
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(info) == 20:
            return [(level, kind, info if _is_link_local(info) else info[:16] + bytes(4))]  # in6_pktinfo: addr, ifindex
    return []


def _is_link_local(address: bytes) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80
