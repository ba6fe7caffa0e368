"""What the SPIFFE Workload API says, read from its protobuf messages (SPIFFE Workload API 5, workload.proto)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from msgspec import Struct

from dohproxy.errors import MalformedMessage
from dohproxy.identity.der import split_untrusted

_VARINT, _FIXED64, _OCTETS, _FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf."""
_SIZES = {_FIXED64: 8, _FIXED32: 4}

Bundles = Mapping[str, tuple[bytes, ...]]
"""The authorities, certificates in DER, of each trust domain by its name, such as `prod.example`."""


class Svid(Struct, frozen=True):
    """An identity that we may use (message X509SVID)."""

    spiffe_id: str
    chain: tuple[bytes, ...]
    """Certificates in DER, our own first."""
    key: bytes
    """PKCS #8 in DER."""
    bundle: tuple[bytes, ...]
    """The authorities of its trust domain."""
    hint: str = ""


class Svids(Struct, frozen=True):
    """What FetchX509SVID streams: all that we are, the first by default (message X509SVIDResponse)."""

    svids: tuple[Svid, ...]
    federated: Bundles


def parse_svids_untrusted(data: bytes) -> Svids:
    """A message X509SVIDResponse."""
    svids, federated = [], {}
    for number, value in _fields_untrusted(data):
        if number == 1:
            svids.append(_svid_untrusted(value))
        elif number == 3:
            name, bundle = _entry_untrusted(value)
            federated[name] = bundle
    return Svids(tuple(svids), MappingProxyType(federated))


def parse_bundles_untrusted(data: bytes) -> Bundles:
    """A message X509BundlesResponse."""
    entries = (_entry_untrusted(value) for number, value in _fields_untrusted(data) if number == 2)
    return MappingProxyType(dict(entries))


def _svid_untrusted(data: bytes) -> Svid:
    said = dict(_fields_untrusted(data))  # of what is there twice the last counts
    return Svid(
        spiffe_id=_text_untrusted(said.get(1, b"")),
        chain=split_untrusted(said.get(2, b"")),
        key=said.get(3, b""),
        bundle=split_untrusted(said.get(4, b"")),
        hint=_text_untrusted(said.get(5, b"")),
    )


def _entry_untrusted(data: bytes) -> tuple[str, tuple[bytes, ...]]:
    """Of a map from trust domains to bundles. The name of a trust domain may be written as its SPIFFE ID."""
    said = dict(_fields_untrusted(data))
    name = _text_untrusted(said.get(1, b"")).removeprefix("spiffe://")
    return name, split_untrusted(said.get(2, b""))


def _fields_untrusted(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields that have octets, with their numbers; no other kind says anything here."""
    at = 0
    while at < len(data):
        tag, at = _varint_untrusted(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _OCTETS:
            length, at = _varint_untrusted(data, at)
            yield number, data[at : at + length]
            at += length
        elif kind == _VARINT:
            _, at = _varint_untrusted(data, at)
        elif kind in _SIZES:
            at += _SIZES[kind]
        else:
            raise MalformedMessage(f"protobuf of the wire type {kind}")
        if at > len(data):
            raise MalformedMessage("protobuf that ends early")


def _varint_untrusted(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            raise MalformedMessage("protobuf that ends early")
        octet, at = data[at], at + 1
        value |= (octet & 0x7F) << shift
        if not octet & 0x80:
            return value, at
    raise MalformedMessage("protobuf with a number that is none")


def _text_untrusted(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedMessage("protobuf with a text that is none") from None
