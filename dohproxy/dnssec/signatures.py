"""RRSIG records: read, dated, and verified over the canonical form of an RRset (RFC 4034 3.1, 6; RFC 4035 5.3)."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dohproxy.dnssec.budget import Budget, Cost
from dohproxy.dnssec.keys import ZONE_KEY, Claim, Key, KeyRing
from dohproxy.dnssec.quick import SIGNER, is_subdomain, label_count, plain_claim, signer_in
from dohproxy.errors import MalformedMessage
from dohproxy.model import Name, RRset
from dohproxy.wire import constants as c
from dohproxy.wire import names
from dohproxy.wire.rdata import canonical_rdata

_FIXED: Final = struct.Struct("!HBBIIIH")
_RECORD: Final = struct.Struct("!HHIH")
_SPAN: Final = 1 << 32
_HALF: Final = 1 << 31
_AT_HAND: Final = 64
"""Signatures that are not read again: a record is looked at several times, and some are repeated from answer to answer."""


class Rrsig(Struct, frozen=True, gc=False):
    """A signature: what it covers, by whom, when (RFC 4034 3.1)."""

    covered: int
    algorithm: int
    labels: int
    original_ttl: int
    expiration: int
    inception: int
    key_tag: int
    signer: Name
    """In lower case (RFC 6840 5.1)."""
    head: bytes
    """The RDATA up to the signature, in canonical form: what the signed data starts with."""
    signature: bytes


@lru_cache(_AT_HAND)
def read_rrsig_untrusted(rdata: bytes) -> Rrsig:
    """The signature in an RRSIG's RDATA; raises MalformedMessage."""
    signer = signer_in(rdata)
    if not signer:
        raise MalformedMessage("an RRSIG record ends too soon, or its signer is no name")
    covered, algorithm, labels, original_ttl, expiration, inception, tag = _FIXED.unpack_from(rdata)
    head, signature = rdata[:SIGNER] + signer, rdata[SIGNER + len(signer) :]
    return Rrsig(covered, algorithm, labels, original_ttl, expiration, inception, tag, signer, head, signature)


class Dates(Struct, frozen=True, gc=False):
    """When signatures are judged (seconds since 1970), and how far their dates may be off (seconds)."""

    wall: int
    skew_min: int = 3600
    skew_max: int = 86400

    def skew(self, rrsig: Rrsig) -> int:
        """A tenth of the signature's lifetime, within the limits."""
        return min(max(serial_gap(rrsig.expiration, rrsig.inception) // 10, self.skew_min), self.skew_max)


def serial_gap(later: int, earlier: int) -> int:
    """Seconds from `earlier` to `later` in serial number arithmetic of 32 bits: -2^31 … 2^31-1 (RFC 1982 3.2)."""
    return (later - earlier + _HALF) % _SPAN - _HALF


def date_text(timestamp: int, wall: int) -> str:
    """The date that a 32-bit timestamp stands for near the time `wall` (RFC 4034 3.1.5)."""
    seconds = wall + serial_gap(timestamp, wall)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Flaw(Struct, frozen=True, gc=False):
    """Why a signature, or whatever rests on it, does not hold: an EDE INFO-CODE and words."""

    code: int
    text: str


class Verified(Struct, frozen=True, gc=False):
    """An RRset with a signature that holds, which then is its first; its TTL is capped (RFC 4035 5.3.3)."""

    rrset: RRset
    key: Key
    expanded: bool
    """Whether it was made from a wildcard (RFC 4035 5.3.4); the labels field of the signature says from which."""

    @property
    def rrsig(self) -> Rrsig:
        """The signature."""
        return read_rrsig_untrusted(self.rrset.signatures[0])


def verify(rrset: RRset, zone: Name, ring: KeyRing, dates: Dates, budget: Budget) -> Verified | Flaw:
    """The RRset if one of its signatures is good under the zone's keys (RFC 4035 5.3.1), else what is wrong.

    Of many flaws the one that says most is told. Raises BudgetExhausted.
    """
    flaw: Flaw | None = None
    for rdata in rrset.signatures:
        claim = plain_claim(rrset, rdata, zone, ring, dates.wall) or claim_of(rrset, rdata, zone, ring, dates)
        found = claim if isinstance(claim, Flaw) else _try_keys(claim, budget)
        if isinstance(found, Key):
            assert isinstance(claim, Claim)
            return _verified(rrset, rdata, claim, found)
        flaw = flaw if flaw is not None and _telling(flaw) >= _telling(found) else found
    return flaw or Flaw(c.EDE_RRSIGS_MISSING, "there is no RRSIG")


def verify_plain(rrset: RRset, zone: Name, ring: KeyRing, dates: Dates, budget: Budget) -> RRset | None:
    """The RRset, TTL capped, if its first signature is good by the only key that it may be of, and it is of no wildcard.

    None where it is not, or there is more to it; unless that signature was tried, nothing is spent. Raises BudgetExhausted.
    """
    if not rrset.signatures:
        return None
    rdata = rrset.signatures[0]
    claim = plain_claim(rrset, rdata, zone, ring, dates.wall) or claim_of(rrset, rdata, zone, ring, dates)
    if isinstance(claim, Flaw) or claim.expanded or len(claim.keys) != 1:
        return None
    budget.spend(Cost.SIGNATURES)
    if not claim.keys[0].verifies(claim.signature, claim.data):
        budget.spend(Cost.FAILURES)
        return None
    return rrset if claim.ttl == rrset.ttl else replace(rrset, ttl=claim.ttl)


def claim_of(rrset: RRset, rdata: bytes, zone: Name, ring: KeyRing, dates: Dates) -> Claim | Flaw:
    """What this signature of the RRset says, if the zone may have made it, with a key that it has, and may say so now."""
    try:
        rrsig = read_rrsig_untrusted(rdata)
        if flaw := _flaw_in_form(rrset, rrsig, zone) or _flaw_in_dates(rrsig, dates):
            return flaw
        keys = ring.find(rrsig.key_tag, rrsig.algorithm)
        return _claim(rrset, rrsig, keys, dates) if keys else _no_key(rrsig, ring)
    except MalformedMessage as error:
        return Flaw(c.EDE_BOGUS, str(error))


def _claim(rrset: RRset, rrsig: Rrsig, keys: list[Key], dates: Dates) -> Claim:
    left = serial_gap(rrsig.expiration, dates.wall)
    if left < 0:
        left += dates.skew(rrsig)
    ttl, expanded = min(rrset.ttl, rrsig.original_ttl, left), rrsig.labels < _signable_labels(rrset.owner)
    return Claim(keys, rrsig.signature, signed_data(rrset, rrsig), ttl, expanded)


def is_self_signed(rrset: RRset, key: Key, dates: Dates, budget: Budget) -> bool:
    """Whether this key of the zone's DNSKEY RRset signed it, even if it is revoked: so it says itself (RFC 5011 2.1)."""
    for rdata in rrset.signatures:
        try:
            rrsig = read_rrsig_untrusted(rdata)
            if (rrsig.key_tag, rrsig.algorithm) != (key.tag, key.algorithm):
                continue
            if _flaw_in_form(rrset, rrsig, rrset.owner) or _flaw_in_dates(rrsig, dates):
                continue
            budget.spend(Cost.SIGNATURES)
            if key.verifies(rrsig.signature, signed_data(rrset, rrsig)):
                return True
        except MalformedMessage:
            continue
    return False


_TELLING: Final = (
    c.EDE_DNSKEY_MISSING,
    c.EDE_NO_ZONE_KEY_BIT,
    c.EDE_BOGUS,
    c.EDE_SIGNATURE_EXPIRED_BEFORE_VALID,
    c.EDE_SIGNATURE_NOT_YET_VALID,
    c.EDE_SIGNATURE_EXPIRED,
)


def _telling(flaw: Flaw) -> int:
    return _TELLING.index(flaw.code)


def _verified(rrset: RRset, good: bytes, claim: Claim, key: Key) -> Verified:
    if claim.ttl != rrset.ttl or rrset.signatures[0] is not good:
        others = tuple(rdata for rdata in rrset.signatures if rdata is not good)
        rrset = replace(rrset, ttl=claim.ttl, signatures=(good, *others))
    return Verified(rrset, key, claim.expanded)


@lru_cache(_AT_HAND)
def _signable_labels(owner: Name) -> int:
    """What the labels field of a signature of an RRset as it stands in the zone says (RFC 4034 3.1.3)."""
    return label_count(owner) - names.is_wildcard(owner)


def _flaw_in_form(rrset: RRset, rrsig: Rrsig, zone: Name) -> Flaw | None:
    """What RFC 4035 5.3.1 demands of signer, type and labels."""
    if rrsig.covered != rrset.rdtype:
        return Flaw(c.EDE_BOGUS, "RRSIG covers another type")
    if rrsig.signer != zone:
        return Flaw(c.EDE_BOGUS, f"RRSIG has the signer {names.to_text(rrsig.signer)}, which is not the zone")
    if not is_subdomain(rrset.owner, zone):
        return Flaw(c.EDE_BOGUS, f"RRSIG has the signer {names.to_text(rrsig.signer)}, which is not above it")
    if rrsig.labels > _signable_labels(rrset.owner):
        return Flaw(c.EDE_BOGUS, "RRSIG has more labels than the owner")
    if rrsig.labels < label_count(zone):
        return Flaw(c.EDE_BOGUS, "RRSIG has fewer labels than the signer")
    return None


def _flaw_in_dates(rrsig: Rrsig, dates: Dates) -> Flaw | None:
    if serial_gap(rrsig.expiration, rrsig.inception) < 0:
        return Flaw(c.EDE_SIGNATURE_EXPIRED_BEFORE_VALID, f"RRSIG by key {rrsig.key_tag} expires before it becomes valid")
    early, late = serial_gap(rrsig.inception, dates.wall), serial_gap(dates.wall, rrsig.expiration)
    if early > 0 and early > dates.skew(rrsig):
        return Flaw(
            c.EDE_SIGNATURE_NOT_YET_VALID,
            f"RRSIG by key {rrsig.key_tag} is not valid before {date_text(rrsig.inception, dates.wall)}",
        )
    if late > 0 and late > dates.skew(rrsig):
        return Flaw(c.EDE_SIGNATURE_EXPIRED, f"RRSIG by key {rrsig.key_tag} expired {date_text(rrsig.expiration, dates.wall)}")
    return None


def _try_keys(claim: Claim, budget: Budget) -> Key | Flaw:
    """The key that made the signature; each one tried is counted."""
    for tried, key in enumerate(claim.keys):
        if tried:
            budget.spend(Cost.COLLISIONS)
        budget.spend(Cost.SIGNATURES)
        if key.verifies(claim.signature, claim.data):
            return key
        budget.spend(Cost.FAILURES)
    key = claim.keys[0]
    return Flaw(c.EDE_BOGUS, f"RRSIG by key {key.tag} does not verify" + (f": {key.refusal}" if key.refusal else ""))


def _no_key(rrsig: Rrsig, ring: KeyRing) -> Flaw:
    key = ring.why_unusable(rrsig.key_tag, rrsig.algorithm)
    if key is None:
        return Flaw(
            c.EDE_DNSKEY_MISSING, f"RRSIG is by key {rrsig.key_tag} with algorithm {rrsig.algorithm}, which is not there"
        )
    if not key.flags & ZONE_KEY:
        return Flaw(c.EDE_NO_ZONE_KEY_BIT, f"RRSIG is by key {key.tag}, which is no zone key")
    why = "is revoked" if key.revoked else f"has protocol {key.protocol}"
    return Flaw(c.EDE_DNSKEY_MISSING, f"RRSIG is by key {key.tag}, which {why}")


def signed_data(rrset: RRset, rrsig: Rrsig) -> bytes:
    """What the signature is made over (RFC 4034 3.1.8.1): RRSIG RDATA, then the RRs in canonical form and order (6.3)."""
    owner, surplus = rrset.owner, _signable_labels(rrset.owner) - rrsig.labels
    if surplus > 0:
        owner = names.wildcard_of(names.last_labels(owner, rrsig.labels))  # no longer than the owner: there is room
    kind, rdclass, ttl, pack = rrset.rdtype, rrset.rdclass, rrsig.original_ttl, _RECORD.pack
    rdatas = rrset.rdatas
    if len(rdatas) == 1:
        rdata = canonical_rdata(kind, rdatas[0])
        return b"".join((rrsig.head, owner, pack(kind, rdclass, ttl, len(rdata)), rdata))
    parts = [rrsig.head]
    for rdata in sorted({canonical_rdata(kind, rdata) for rdata in rdatas}):
        parts += (owner, pack(kind, rdclass, ttl, len(rdata)), rdata)
    return b"".join(parts)
