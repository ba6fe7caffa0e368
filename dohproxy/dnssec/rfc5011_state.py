"""The state file of RFC 5011: trust points as JSON, for us to read back and for people to read."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec
from msgspec import Struct

from dohproxy.dnssec.rfc5011 import State, TrackedKey, TrustPoint
from dohproxy.errors import BadName, DohproxyError
from dohproxy.wire.names import from_text, to_text

VERSION: Final = 1


class StateError(DohproxyError, ValueError):
    """A text that is no state file that we can read; says why."""


class _Key(Struct, frozen=True, omit_defaults=True):
    dnskey: str
    """Presentation form (RFC 4034 2.2)."""
    state: State
    since: int
    until: int | None = None
    sightings: int = 0
    key_tag: int = -1
    """For people; not read back."""


class _Zone(Struct, frozen=True):
    zone: str
    keys: tuple[_Key, ...]
    probed: int
    refreshed: int
    next_probe: int
    original_ttl: int
    expiration: int


class _File(Struct, frozen=True):
    version: int
    zones: tuple[_Zone, ...]


class _Versioned(Struct, frozen=True):
    version: int


def write_state(points: tuple[TrustPoint, ...]) -> str:
    """The trust points as the text of a state file."""
    file = _File(VERSION, tuple(_zone(point) for point in points))
    return msgspec.json.format(msgspec.json.encode(file)).decode() + "\n"


def _zone(point: TrustPoint) -> _Zone:
    keys = tuple(_Key(_dnskey_text(key.rdata), key.state, key.since, key.until, key.sightings, key.tag) for key in point.keys)
    times = point.probed, point.refreshed, point.next_probe, point.original_ttl, point.expiration
    return _Zone(to_text(point.zone), keys, *times)


def _dnskey_text(rdata: bytes) -> str:
    return f"{int.from_bytes(rdata[:2])} {rdata[2]} {rdata[3]} {base64.b64encode(rdata[4:]).decode()}"


def read_state(text: str) -> tuple[TrustPoint, ...]:
    """The trust points in the text of a state file; raises StateError, also for a version that is not ours."""
    try:
        version = msgspec.json.decode(text, type=_Versioned).version
        if version != VERSION:
            raise StateError(f"the RFC 5011 state file has version {version}, this program reads {VERSION}")
        return tuple(_point(zone) for zone in msgspec.json.decode(text, type=_File).zones)
    except (msgspec.DecodeError, BadName, binascii.Error, OverflowError) as error:
        raise StateError(f"the RFC 5011 state file cannot be read: {error}") from None


def _point(zone: _Zone) -> TrustPoint:
    keys = tuple(TrackedKey(_dnskey_rdata(key.dnskey), key.state, key.since, key.until, key.sightings) for key in zone.keys)
    times = zone.probed, zone.refreshed, zone.next_probe, zone.original_ttl, zone.expiration
    return TrustPoint(from_text(zone.zone), keys, *times)


def _dnskey_rdata(text: str) -> bytes:
    fields = text.split()
    if len(fields) < 4 or not all(field.isdecimal() for field in fields[:3]):
        raise StateError(f"{text!r} is no DNSKEY record")
    flags, protocol, algorithm = map(int, fields[:3])
    key = base64.b64decode("".join(fields[3:]), validate=True)
    return flags.to_bytes(2) + protocol.to_bytes(1) + algorithm.to_bytes(1) + key
