"""QUIC packets outside of any connection: whom a datagram is for, and what is answered when there is no connection.

The version-independent part of a header (RFC 8999), Version Negotiation, Retry, refusals in an Initial packet, and stateless
resets (RFC 9000 6, 8.1.2, 5.2.2, 10.3).
"""

from __future__ import annotations

import hmac
import os

from aioquic._buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicFrameType,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from msgspec import Struct

from dohproxy.errors import MalformedMessage

LONG, FIXED = 0x80, 0x40
"""Of the first octet: a long header, and what every packet of versions 1 and 2 has."""
ID_SIZE = 8
"""Octets of the connection IDs that we give out."""
MIN_INITIAL = 1200
"""Octets of a datagram with an Initial packet at least (RFC 9000 14.1)."""
MIN_CHOSEN_ID = 8
"""Octets at least of the connection ID that a client chooses for us (RFC 9000 7.2)."""
TOKEN_SIZE = 16
MIN_RESET, MAX_RESET = 21, 43
"""Octets of a stateless reset: the fewest that may be, and as many as look like any other small packet."""


class Header(Struct, frozen=True, gc=False):
    """What all versions of QUIC have in common (RFC 8999 5); `version` is None with a short header."""

    destination: bytes
    version: int | None = None
    source: bytes = b""


def header_untrusted(datagram: bytes) -> Header:
    """Of the first packet of a datagram. Raises MalformedMessage."""
    if len(datagram) <= ID_SIZE:
        raise MalformedMessage("too short for QUIC")
    if not datagram[0] & LONG:
        return Header(datagram[1 : 1 + ID_SIZE])
    at = 6 + datagram[5]
    if at >= len(datagram) or (end := at + 1 + datagram[at]) > len(datagram):
        raise MalformedMessage("the connection IDs are cut off")
    return Header(datagram[6:at], int.from_bytes(datagram[1:5]), datagram[at + 1 : end])


def initial_token_untrusted(datagram: bytes) -> bytes | None:
    """The token of the Initial packet, of a version that we speak, that a datagram begins with; None if it is none that counts.

    Raises MalformedMessage.
    """
    try:
        header = pull_quic_header(Buffer(data=datagram), host_cid_length=ID_SIZE)
    except ValueError as error:
        raise MalformedMessage("no packet of QUIC") from error
    if header.packet_type != QuicPacketType.INITIAL or len(datagram) < MIN_INITIAL:
        return None
    return header.token if len(header.destination_cid) >= MIN_CHOSEN_ID else None


def version_negotiation(header: Header, versions: list[int]) -> bytes:
    """Which versions we speak (RFC 9000 17.2.1)."""
    return encode_quic_version_negotiation(
        source_cid=header.destination, destination_cid=header.source, supported_versions=versions
    )


def retry(header: Header, source: bytes, token: bytes) -> bytes:
    """Have the client come again with this token, to the connection ID `source` (RFC 9000 17.2.5)."""
    assert header.version is not None
    return encode_quic_retry(
        version=header.version,
        source_cid=source,
        destination_cid=header.source,
        original_destination_cid=header.destination,
        retry_token=token,
    )


def refusal(header: Header, error: int) -> bytes:
    """An Initial packet that closes, with this error, the connection that a client asks for (RFC 9000 5.2.2)."""
    assert header.version is not None
    crypto = CryptoPair()
    crypto.setup_initial(cid=header.destination, is_client=False, version=header.version)
    builder = QuicPacketBuilder(
        host_cid=header.destination,
        peer_cid=header.source,
        version=header.version,
        is_client=False,
        max_datagram_size=MIN_INITIAL,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=25)
    for number in (error, QuicFrameType.PADDING, 0):
        frame.push_uint_var(number)
    [datagram], _ = builder.flush()
    return datagram


def reset_token(key: bytes, connection_id: bytes) -> bytes:
    """The token that proves, of a connection ID of ours, that we know nothing of its connection any more (RFC 9000 10.3.2)."""
    return hmac.digest(key, connection_id, "sha256")[:TOKEN_SIZE]


def stateless_reset(key: bytes, datagram: bytes) -> bytes | None:
    """What tells a client that its connection is gone; None where it would be no shorter than its cause (RFC 9000 10.3.3)."""
    size = min(len(datagram) - 1, MAX_RESET)
    if size < MIN_RESET:
        return None
    noise = os.urandom(size - TOKEN_SIZE)
    return bytes((noise[0] & 0x3F | FIXED,)) + noise[1:] + reset_token(key, datagram[1 : 1 + ID_SIZE])
