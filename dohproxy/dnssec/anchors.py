"""Trust anchors and negative trust anchors: where validation starts, and where it must not (RFC 4033 2, RFC 7646)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from msgspec import Struct

from dohproxy.config.settings import Anchor, NegativeAnchor
from dohproxy.dnssec.keys import PROTOCOL, Ds, Key, read_ds_untrusted, read_key_untrusted, usable_ds
from dohproxy.dnssec.quick import is_subdomain
from dohproxy.errors import DohproxyError
from dohproxy.model import Name
from dohproxy.wire import names
from dohproxy.wire.constants import DNSKEY, DS


class AnchorsError(DohproxyError, ValueError):
    """A text or a record that holds no trust anchors."""


class TrustAnchor(Struct, frozen=True):
    """The keys of a zone that are trusted from the start, told by digests or in full."""

    zone: Name
    digests: tuple[Ds, ...]
    keys: tuple[Key, ...]

    def names(self, key: Key) -> bool:
        """Whether this key is one of them; a SHA-1 digest beside a stronger one does not count (RFC 4509 3)."""
        if any(known.rdata == key.rdata for known in self.keys):
            return True
        digests = usable_ds(self.digests, frozenset((key.algorithm,)))
        return any(ds.key_tag == key.tag and ds.names(self.zone, key) for ds in digests)

    @property
    def tags(self) -> frozenset[int]:
        """The key tags of all of them."""
        return frozenset([*(ds.key_tag for ds in self.digests), *(key.tag for key in self.keys)])


class AnchorSet:
    """Anchors of any number of zones. The closest one at or above a name rules; at one name a negative one wins."""

    def __init__(self, anchors: Iterable[Anchor], negative: Iterable[NegativeAnchor] = ()) -> None:
        self.given = tuple(anchors)
        self._anchors = {zone: gathered(zone, self.given) for zone in dict.fromkeys(anchor.zone for anchor in self.given)}
        self._negative = {anchor.name: anchor for anchor in negative}
        self._lengths = tuple(sorted({*map(len, self._anchors), *map(len, self._negative)}, reverse=True))
        """Of the names of both, in octets: few, where names have many ancestors."""

    def with_anchors(self, zone: Name, anchors: Iterable[Anchor]) -> AnchorSet:
        """The same but for the anchors of this zone, which are these."""
        others = (anchor for anchor in self.given if anchor.zone != zone)
        return AnchorSet((*others, *anchors), self._negative.values())

    def without_negative(self, *gone: Name) -> AnchorSet:
        """The same without the negative anchors at these names."""
        return AnchorSet(self.given, (anchor for name, anchor in self._negative.items() if name not in gone))

    @property
    def zones(self) -> tuple[Name, ...]:
        """The zones that have trust anchors."""
        return tuple(self._anchors)

    def of(self, zone: Name) -> TrustAnchor | None:
        """The anchor of exactly this zone."""
        return self._anchors.get(zone)

    def closest(self, name: Name, wall: int) -> TrustAnchor | NegativeAnchor | None:
        """What rules `name` at this time (seconds since 1970); None: nothing is known of it, so nothing is validated."""
        for length in self._lengths:
            candidate = name[-length:]
            negative, anchor = self._negative.get(candidate), self._anchors.get(candidate)
            if (negative is None and anchor is None) or not is_subdomain(name, candidate):
                continue
            if negative is not None and (negative.until is None or wall < negative.until):
                return negative
            if anchor is not None:
                return anchor
        return None

    def let_speak(self, zone: Name, name: Name, wall: int) -> bool:
        """Whether proofs of `zone` count for `name`: its anchor is there or above, and no negative one is closer."""
        point = self.closest(name, wall)
        return isinstance(point, TrustAnchor) and is_subdomain(zone, point.zone)


def gathered(zone: Name, anchors: Iterable[Anchor]) -> TrustAnchor:
    """Those of the anchors that are this zone's."""
    records = [anchor for anchor in anchors if anchor.zone == zone]
    digests = tuple(read_ds_untrusted(record.rdata) for record in records if record.rdtype == DS)
    keys = tuple(read_key_untrusted(record.rdata) for record in records if record.rdtype == DNSKEY)
    return TrustAnchor(zone, digests, keys)


_FILE: Final = "root-anchors.xml"
_MADE: Final = 1_790_000_000
"""A time, in seconds since 1970, before which this program did not exist: a clock that says less is wrong."""


def built_in(wall: int) -> tuple[Anchor, ...]:
    """The root's anchors that came with the program, as published by IANA, of those valid at this time.

    A clock from before the program was made does not hide them: setting it may need DNS.
    """
    wall = max(wall, _MADE)
    packaged = resources.files("dohproxy.dnssec").joinpath(_FILE)
    if packaged.is_file():
        return read_published(packaged.read_text(), wall)
    checkout = Path(__file__).parents[2] / "certs" / _FILE
    return read_published(checkout.read_text(), wall)


def read_published(text: str, wall: int) -> tuple[Anchor, ...]:
    """The anchors in the text of IANA's root-anchors.xml (RFC 7958 2) that are valid at this time; raises AnchorsError."""
    try:
        root = ElementTree.fromstring(text)
        zone = names.from_text((root.findtext("Zone") or "").strip())
        entries = root.findall("KeyDigest")
        found = tuple(anchor for entry in entries if _is_valid(entry, wall) for anchor in _anchors_in(entry, zone))
    except (ElementTree.ParseError, ValueError) as error:
        raise AnchorsError(f"not a file of trust anchors: {error}") from None
    if not found:
        raise AnchorsError("none of the trust anchors is valid now")
    return found


def _is_valid(entry: ElementTree.Element, wall: int) -> bool:
    start, end = entry.get("validFrom"), entry.get("validUntil")
    return not (start and wall < _timestamp(start)) and not (end and wall >= _timestamp(end))


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _anchors_in(entry: ElementTree.Element, zone: Name) -> list[Anchor]:
    """The DS record, and the DNSKEY record where the entry has the whole key."""
    algorithm = _number(entry, "Algorithm")
    digest = bytes.fromhex("".join((entry.findtext("Digest") or "").split()))
    head = _number(entry, "KeyTag").to_bytes(2, "big")
    found = [Anchor(zone, DS, head + bytes([algorithm, _number(entry, "DigestType")]) + digest)]
    if key := entry.findtext("PublicKey"):
        flags = _number(entry, "Flags").to_bytes(2, "big")
        found.append(Anchor(zone, DNSKEY, flags + bytes([PROTOCOL, algorithm]) + _base64(key)))
    return found


def _number(entry: ElementTree.Element, tag: str) -> int:
    return int(entry.findtext(tag) or "")


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"bad Base64: {error}") from None
