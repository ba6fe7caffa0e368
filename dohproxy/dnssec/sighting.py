"""A zone's DNSKEY RRset as it was seen, held against the keys that are trusted: what RFC 5011 and the operator want to know."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from dohproxy.config.settings import Anchor
from dohproxy.dnssec.anchors import TrustAnchor, gathered
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.keys import Key, KeyRing, read_key_untrusted
from dohproxy.dnssec.rfc5011 import DEAD, Sighting, TrustPoint, identity, is_followed
from dohproxy.dnssec.signatures import Dates, Verified, is_self_signed, read_rrsig_untrusted, serial_gap, verify
from dohproxy.errors import MalformedMessage
from dohproxy.model import RRset


class Seen(Struct, frozen=True):
    """What was found out of one DNSKEY RRset."""

    keys: tuple[Key, ...]
    """All that can be read."""
    signers: frozenset[int]
    """The key tags of its signatures, whether they verify or not."""
    matching: tuple[Key, ...]
    """Those that the trust anchors name, and that are not revoked."""
    revoked: tuple[Key, ...]
    """Those that the trust anchors name by what they were before they were revoked."""
    sighting: Sighting
    flaw: str = ""
    """Why the RRset is not validated by a trusted key; "" if it is."""

    def newcomers(self, algorithms: frozenset[int]) -> tuple[Key, ...]:
        """Key signing keys that nobody trusts yet (RFC 5011 6)."""
        known = (*self.matching, *self.revoked)
        return tuple(key for key in self.keys if is_followed(key.rdata, algorithms) and not key.revoked and key not in known)


def examine(
    rrset: RRset, trusted: TrustAnchor, configured: TrustAnchor, *, dates: Dates, algorithms: frozenset[int], budget: Budget
) -> Seen:
    """The zone's RRset, validated by the keys `trusted` that are in it; raises BudgetExhausted.

    `configured` are the anchors that an operator, or the program itself, vouches for.
    """
    keys = _readable(rrset.rdatas)
    matching = tuple(key for key in keys if key.algorithm in algorithms and trusted.names(key) and not key.revoked)
    revoked = tuple(key for key in keys if key.revoked and trusted.names(Key(identity(key.rdata))))
    found = verify(rrset, rrset.owner, KeyRing(matching), dates, budget)
    validated = isinstance(found, Verified)
    sighting = Sighting(
        rdatas=rrset.rdatas,
        original_ttl=found.rrsig.original_ttl if isinstance(found, Verified) else 0,
        expiration=_moment(found.rrsig.expiration, dates.wall) if isinstance(found, Verified) else 0,
        validated=validated,
        self_signed=frozenset(key.rdata for key in keys if key.revoked and is_self_signed(rrset, key, dates, budget)),
        anchored=frozenset(key.rdata for key in keys if configured.names(key)),
    )
    flaw = found.text if not isinstance(found, Verified) else ""
    return Seen(keys, _signers(rrset), matching, revoked, sighting, flaw)


def anchors_now(point: TrustPoint, configured: Iterable[Anchor]) -> tuple[Anchor, ...]:
    """What is trusted of a zone that is followed: the keys that came to be, and what is configured unless it was revoked.

    So a state file from before a roll does no harm to a program, or a configuration, from after it.
    """
    dead = [Key(key.rdata) for key in point.keys if key.state in DEAD]
    kept = (anchor for anchor in configured if not any(gathered(point.zone, (anchor,)).names(key) for key in dead))
    return tuple(dict.fromkeys((*point.trusted, *kept)))


def _moment(timestamp: int, wall: int) -> int:
    return wall + serial_gap(timestamp, wall)


def _signers(rrset: RRset) -> frozenset[int]:
    found = set()
    for rdata in rrset.signatures:
        try:
            found.add(read_rrsig_untrusted(rdata).key_tag)
        except MalformedMessage:
            continue
    return frozenset(found)


def _readable(rdatas: Iterable[bytes]) -> tuple[Key, ...]:
    found = []
    for rdata in rdatas:
        try:
            found.append(read_key_untrusted(rdata))
        except MalformedMessage:
            continue
    return tuple(found)
