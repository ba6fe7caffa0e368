"""Answers made of proofs: NSEC and NSEC3 records, once validated, answer for every name of their span (RFC 8198).

Kept are, by zone and in the order of their chain, NSEC records, NSEC3 records without opt-out (RFC 8198 5.2), RRsets that
came from wildcards (5.3) and the SOA. What they prove is decided where answers from upstreams are judged as well.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, Final

from dohproxy.dnssec import nsec, nsec3
from dohproxy.dnssec.budget import DEFAULT_LIMITS, Budget, Cost
from dohproxy.dnssec.nsec import Nsec
from dohproxy.dnssec.nsec3 import Chain, Nsec3, Parameters, Records
from dohproxy.dnssec.proof import Proof, ProofKind
from dohproxy.dnssec.quick import is_subdomain, label_count, signer_in
from dohproxy.errors import BudgetExhausted
from dohproxy.model import Answer, Ede, Name, Question, RRset, Security, Source
from dohproxy.wire import constants as c
from dohproxy.wire import names
from dohproxy.wire.negative import negative_ttl

MAX_ITERATIONS: Final = 50
"""NSEC3 records that ask for more are not worth their hashes here."""
MAX_HASHES: Final = 12
"""For one question."""
_LIMITS: Final = {**DEFAULT_LIMITS, Cost.HASHES: MAX_HASHES}
REMEMBERED_HASHES: Final = 512
"""Of one zone, so that its apex and wildcards are not hashed again for each question."""
OVERHEAD: Final = 1000
"""Octets of memory that an entry takes besides its names, RDATA and signatures, about."""

_DENIALS: Final = (c.NSEC, c.NSEC3)
_LEARNT: Final = (c.SOA, *_DENIALS)
"""Types of which not only what a wildcard made is kept."""
_SYNTHESIZED: Final = (Ede(c.EDE_SYNTHESIZED, "proven by validated denial records in the cache (RFC 8198)"),)

Key = Any
"""What orders a chain: a canonical sort key for NSEC, a hash for NSEC3; of other shelves, any hashable."""


class _Kept:
    """One RRset at hand, and where it lies."""

    __slots__ = ("expires", "key", "negative", "octets", "record", "rrset", "shelf", "zone")

    def __init__(self, zone: _Zone, shelf: MutableMapping[Key, _Kept], key: Key, rrset: RRset, expires: float) -> None:
        self.zone, self.shelf, self.key, self.rrset, self.expires = zone, shelf, key, rrset, expires
        self.record: Nsec | Nsec3 | None = None
        self.negative = negative_ttl(rrset) if rrset.rdtype == c.SOA else 0
        """Seconds that denials beside this SOA are good for."""
        self.octets = OVERHEAD + 4 * len(rrset.owner) + sum(map(len, rrset.rdatas)) + sum(map(len, rrset.signatures))


class _Ordered(MutableMapping[Key, _Kept]):
    """Records of a chain by key, in order."""

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._kept: dict[Key, _Kept] = {}

    def at_or_before(self, key: Key) -> _Kept | None:
        """The entry whose span would hold the key; None before the first."""
        at = bisect_right(self._keys, key)
        return self._kept[self._keys[at - 1]] if at else None

    def last(self) -> _Kept | None:
        return self._kept[self._keys[-1]] if self._keys else None

    def between(self, low: Key, high: Key | None) -> list[_Kept]:
        """The entries strictly between these keys; without `high`, all after `low`."""
        end = len(self._keys) if high is None else bisect_left(self._keys, high)
        return [self._kept[key] for key in self._keys[bisect_right(self._keys, low) : end]]

    def __getitem__(self, key: Key) -> _Kept:
        return self._kept[key]

    def __setitem__(self, key: Key, kept: _Kept) -> None:
        if key not in self._kept:
            self._keys.insert(bisect_left(self._keys, key), key)
        self._kept[key] = kept

    def __delitem__(self, key: Key) -> None:
        del self._kept[key]
        del self._keys[bisect_left(self._keys, key)]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class _Zone:
    """What is known of one zone."""

    __slots__ = ("hashed", "hashes", "name", "ordered", "parameters", "soa", "wildcards")

    def __init__(self, name: Name) -> None:
        self.name = name
        self.ordered, self.hashed = _Ordered(), _Ordered()
        self.wildcards: dict[Key, _Kept] = {}
        self.soa: dict[Key, _Kept] = {}
        self.parameters: Parameters | None = None
        self.hashes: dict[tuple[bytes, bytes, int], bytes] = {}

    def hash(self, name: Name) -> bytes:
        """The name's hash by the parameters of this zone, which has NSEC3 records."""
        assert self.parameters is not None
        key = (name, self.parameters.salt, self.parameters.iterations)
        digest = self.hashes.get(key)
        if digest is None:
            if len(self.hashes) >= REMEMBERED_HASHES:
                self.hashes.clear()
            digest = self.hashes[key] = nsec3.hash_name(*key)
        return digest

    def __len__(self) -> int:
        return len(self.ordered) + len(self.hashed) + len(self.wildcards) + len(self.soa)


class ProofStore:
    """Validated proofs, at most `limit` octets of them: what was not used for longest leaves first.

    `speaks` tells whether a zone (first) may speak of a name: not where a closer trust anchor, or a negative one, rules.
    `max_ttl`, in seconds, bounds how long a proof is used. Modes are the caller's business, and so is forgetting (`clear`)
    when anchors change.
    """

    def __init__(
        self, limit: int, speaks: Callable[[Name, Name], bool] = lambda _zone, _name: True, max_ttl: int = 3600
    ) -> None:
        self.limit, self.max_ttl, self._speaks = limit, max_ttl, speaks
        self.octets = 0
        self._zones: dict[Name, _Zone] = {}
        self._kept: OrderedDict[_Kept, None] = OrderedDict()
        self._signed: dict[bytes, _Kept] = {}
        """The same by their first signatures."""

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget everything."""
        self._zones.clear()
        self._kept.clear()
        self._signed.clear()
        self.octets = 0

    # Learning

    def learn(self, answer: Answer, now: float) -> None:
        """Keep what a SECURE answer proves beyond its own question: each RRset by the zone that signed it."""
        if answer.security is not Security.SECURE or answer.stale or answer.source is Source.SYNTHESIS:
            return
        rrsets: Iterable[RRset] = answer.answer
        if answer.authority:  # the SOA bounds the others' time
            rrsets = sorted((*answer.authority, *rrsets), key=lambda rrset: rrset.rdtype != c.SOA)
        for rrset in rrsets:
            if not self._is_known(rrset, now):
                self._learn(rrset, now)

    def _is_known(self, rrset: RRset, now: float) -> bool:
        """Whether just this is kept, for as long but for a second; then it counts as used."""
        kept = self._signed.get(rrset.signatures[0]) if rrset.signatures else None
        if kept is None or kept.rrset.rdatas != rrset.rdatas or abs(self._expires(kept.zone, rrset, now) - kept.expires) >= 1:
            return False
        self._kept.move_to_end(kept)
        return True

    def _learn(self, rrset: RRset, now: float) -> None:
        if rrset.ttl < 1:
            return
        owner = nsec.signed_owner(rrset)
        if owner is None or not (rrset.rdtype in _LEARNT or names.is_wildcard(owner)):
            return
        name = signer_in(rrset.signatures[0])
        if not name or rrset.rdclass != c.IN or not is_subdomain(owner, name):
            return
        zone = self._zones.get(name) or _Zone(name)
        if rrset.rdtype == c.NSEC:
            self._learn_nsec(zone, rrset, now)
        elif rrset.rdtype == c.NSEC3:
            self._learn_nsec3(zone, rrset, now)
        elif rrset.rdtype == c.SOA and owner == name:
            self._keep(_Kept(zone, zone.soa, c.SOA, rrset, self._expires(zone, rrset, now)))
        elif names.is_wildcard(owner):
            source = RRset(owner, rrset.rdtype, rrset.ttl, rrset.rdatas, rrset.signatures)
            self._keep(_Kept(zone, zone.wildcards, (owner, rrset.rdtype), source, self._expires(zone, rrset, now)))

    def _learn_nsec(self, zone: _Zone, rrset: RRset, now: float) -> None:
        """Keep a record, and let go of those in its span: it is newer, and says that they are gone."""
        records = nsec.read_rrset(rrset, zone.name)
        if len(records) != 1 or records[0].owner != rrset.owner:
            return
        record = records[0]
        for gone in zone.ordered.between(record.low, record.high):
            self._forget(gone)
        kept = _Kept(zone, zone.ordered, record.low, rrset, self._expires(zone, rrset, now))
        kept.record = record
        self._keep(kept)

    def _learn_nsec3(self, zone: _Zone, rrset: RRset, now: float) -> None:
        records = nsec3.read_rrset(rrset, zone.name)
        if len(records) != 1 or records[0].opt_out or records[0].parameters.iterations > MAX_ITERATIONS:
            return
        record = records[0]
        if zone.parameters != record.parameters:
            for old in list(zone.hashed.values()):
                self._forget(old)
            zone.parameters = record.parameters
        for gone in zone.hashed.between(record.owner, record.next if record.next > record.owner else None):
            self._forget(gone)
        kept = _Kept(zone, zone.hashed, record.owner, rrset, self._expires(zone, rrset, now))
        kept.record = record
        self._keep(kept)

    def _expires(self, zone: _Zone, rrset: RRset, now: float) -> float:
        """When this is to be forgotten; a denial no later than the zone's SOA allows (RFC 8198 5.4, RFC 9077 3)."""
        ttl, rdtype = min(rrset.ttl, self.max_ttl), rrset.rdtype
        if rdtype == c.SOA:
            return now + min(ttl, negative_ttl(rrset))
        soa = zone.soa.get(c.SOA) if rdtype in _DENIALS else None
        return now + (ttl if soa is None else min(ttl, soa.negative))

    def _keep(self, kept: _Kept) -> None:
        old = kept.shelf.get(kept.key)
        if kept.octets > self.limit:
            if old is not None:
                self._forget(old)
            return
        if old is not None:
            self._lose(old)
        self._zones[kept.zone.name] = kept.zone
        kept.shelf[kept.key] = kept
        self._kept[kept] = None
        self._signed[kept.rrset.signatures[0]] = kept
        self.octets += kept.octets
        while self.octets > self.limit:
            self._forget(next(iter(self._kept)))

    def _forget(self, kept: _Kept) -> None:
        del kept.shelf[kept.key]
        self._lose(kept)
        if not kept.zone:
            self._zones.pop(kept.zone.name, None)

    def _lose(self, kept: _Kept) -> None:
        """It does not count any more."""
        del self._kept[kept]
        if self._signed.get(kept.rrset.signatures[0]) is kept:
            del self._signed[kept.rrset.signatures[0]]
        self.octets -= kept.octets

    # Answering

    def synthesize(self, question: Question, now: float) -> Answer | None:
        """NXDOMAIN, NODATA or a wildcard's data, SECURE and with its proof in authority; None where proofs do not reach.

        Nothing is said of names at a delegation (but for their DS) or below one, nor of what an opt-out span holds.
        """
        zone = self._zone_of(question)
        if zone is None or question.qclass != c.IN or (c.is_meta_type(question.qtype) and question.qtype != c.ANY):
            return None
        if not self._speaks(zone.name, names.parent(question.qname) if question.qtype == c.DS else question.qname):
            return None
        if zone.ordered and (answer := self._by_nsec(zone, question, now)):
            return answer
        return self._by_nsec3(zone, question, now) if zone.hashed else None

    def _zone_of(self, question: Question) -> _Zone | None:
        """The deepest zone known that the question is for; a DS is its parent's."""
        for suffix in names.suffixes(question.qname):
            zone = self._zones.get(suffix)
            if zone is not None and not (question.qtype == c.DS and suffix == question.qname != names.ROOT):
                return zone
        return None

    def _by_nsec(self, zone: _Zone, question: Question, now: float) -> Answer | None:
        qname, key = question.qname, names.order(question.qname)
        cover = self._fresh(zone.ordered.at_or_before(key), now)
        if cover is None:
            return None
        record = cover.record
        assert isinstance(record, Nsec)
        if record.owner == qname:
            return self._negative(zone, nsec.prove_nonexistence(qname, question.qtype, [record]), [cover], now)
        if not record.covers(key):
            return None
        wildcard = names.wildcard_of(record.closest_encloser(qname, key))
        source = self._fresh(zone.wildcards.get((wildcard, question.qtype)), now)
        if source:
            proof = nsec.prove_no_closer_match(qname, label_count(wildcard) - 1, [record])
            return self._expanded(question, proof, [cover], source, now)
        other = self._fresh(zone.ordered.at_or_before(names.order(wildcard)), now)
        kept = [cover] if other is None or other is cover else [cover, other]
        records = [entry.record for entry in kept if isinstance(entry.record, Nsec)]
        return self._negative(zone, nsec.prove_nonexistence(qname, question.qtype, records), kept, now)

    def _by_nsec3(self, zone: _Zone, question: Question, now: float) -> Answer | None:
        qname = question.qname
        encloser, found = self._path(zone, qname, now)
        if not found:
            return None
        assert zone.parameters is not None
        budget = Budget(_LIMITS)
        budget.hashes = zone.hashes
        chain = Chain(zone.name, zone.parameters, (), budget)
        try:
            if encloser == qname:
                proof = nsec3.prove_nonexistence(qname, question.qtype, _among(found, chain))
                return self._negative(zone, proof, found, now)
            wildcard = names.wildcard_of(encloser)
            source = self._fresh(zone.wildcards.get((wildcard, question.qtype)), now)
            if source:
                proof = nsec3.prove_no_closer_match(qname, label_count(encloser), _among(found, chain))
                return self._expanded(question, proof, found, source, now)
            if near := self._near(zone, zone.hash(wildcard), now):
                found.append(near)
            return self._negative(zone, nsec3.prove_nonexistence(qname, question.qtype, _among(found, chain)), found, now)
        except BudgetExhausted:
            return None

    def _path(self, zone: _Zone, qname: Name, now: float) -> tuple[Name, list[_Kept]]:
        """The records near the names from the apex down to the first that is covered, and the name above that.

        Where none is covered, but `qname` is matched, it is that itself; where that is not either, there are no records.
        """
        above, found, digest = zone.name, list[_Kept](), b""
        path = nsec3.downward(qname, zone.name)
        for name in path[: MAX_HASHES - 1]:  # one is left for the wildcard
            digest = zone.hash(name)
            if near := self._near(zone, digest, now):
                found.append(near)
                if isinstance(near.record, Nsec3) and near.record.covers(digest):
                    return above, found
            above = name
        matched = len(path) < MAX_HASHES and found and isinstance(record := found[-1].record, Nsec3) and record.owner == digest
        return qname, found if matched else []

    def _near(self, zone: _Zone, digest: bytes, now: float) -> _Kept | None:
        """The entry that would match or cover this hash; the last wraps around."""
        return self._fresh(zone.hashed.at_or_before(digest) or zone.hashed.last(), now)

    def _fresh(self, kept: _Kept | None, now: float) -> _Kept | None:
        """The entry, unless it has had its time."""
        if kept is None:
            return None
        if kept.expires - now < 1:
            self._forget(kept)
            return None
        return kept

    def _negative(self, zone: _Zone, proof: Proof, kept: list[_Kept], now: float) -> Answer | None:
        soa = self._fresh(zone.soa.get(c.SOA), now)
        if soa is None or not (proof.proven and proof.secure):
            return None
        self._used(soa, *kept)
        # A compact denial goes with NOERROR, for those who do not know NXNAME (RFC 9824 5)
        nxdomain = proof.kind is ProofKind.NXDOMAIN and proof.closest_encloser is not None
        ttl = _remaining((soa, *kept), now)
        authority = tuple(_with_ttl(rrset, ttl) for rrset in (soa.rrset, *proof.used))
        return _answer(c.NXDOMAIN if nxdomain else c.NOERROR, (), authority, now)

    def _expanded(self, question: Question, proof: Proof, kept: list[_Kept], source: _Kept, now: float) -> Answer | None:
        """The wildcard's data at the name asked for (RFC 8198 5.3)."""
        if not (proof.proven and proof.secure):
            return None
        self._used(source, *kept)
        ttl, held = _remaining((source, *kept), now), source.rrset
        data = RRset(question.qname, held.rdtype, ttl, held.rdatas, held.signatures)
        return _answer(c.NOERROR, (data,), tuple(_with_ttl(rrset, ttl) for rrset in proof.used), now)

    def _used(self, *entries: _Kept) -> None:
        """They are of use, and are to be forgotten last."""
        for kept in entries:
            self._kept.move_to_end(kept)


def _answer(rcode: int, answer: tuple[RRset, ...], authority: tuple[RRset, ...], now: float) -> Answer:
    return Answer(rcode, answer, authority, Security.SECURE, _SYNTHESIZED, born=now, source=Source.SYNTHESIS)


def _among(found: Iterable[_Kept], hashing: Chain) -> Records:
    records = tuple(kept.record for kept in found if isinstance(kept.record, Nsec3))
    return Records((Chain(hashing.zone, hashing.parameters, records, hashing.budget),))


def _remaining(entries: Iterable[_Kept], now: float) -> int:
    """Whole seconds until the first of these has had its time (RFC 8198 5.4)."""
    return int(min(kept.expires for kept in entries) - now)


def _with_ttl(rrset: RRset, ttl: int) -> RRset:
    return RRset(rrset.owner, rrset.rdtype, ttl, rrset.rdatas, rrset.signatures)
