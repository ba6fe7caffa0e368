"""The chain of trust, from an anchor down to a zone, cut by cut (RFC 4035 5.2).

Everything that may have to ask is a generator: it yields the questions whose answers it needs, and is sent those.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from msgspec import Struct

from dohproxy.config.settings import NegativeAnchor
from dohproxy.dnssec import algorithms, denial, reasons
from dohproxy.dnssec.anchors import AnchorSet, TrustAnchor
from dohproxy.dnssec.budget import Budget, Cost
from dohproxy.dnssec.keys import DIGEST_NAMES, Ds, Key, KeyRing, known_digest, read_ds_untrusted, read_key_untrusted, usable_ds
from dohproxy.dnssec.proof import Proof, ProofKind
from dohproxy.dnssec.quick import is_subdomain, signer_above
from dohproxy.dnssec.signatures import Dates, Flaw, Verified, verify
from dohproxy.dnssec.trust import NotACut, Trust, TrustCache
from dohproxy.errors import MalformedMessage, ResolveError
from dohproxy.model import Answer, Ede, Link, Name, RRset, Security
from dohproxy.wire import constants as c
from dohproxy.wire import names
from dohproxy.wire.names import is_below, to_text

MAX_TRUST = 86400
"""Seconds that a finding about a zone is kept at most."""
AGING = 0.1
"""The part of its time that trust in a zone has left when it is worth renewing."""
BOGUS_TIME = 5
"""Seconds that a zone stays bogus before its keys are asked for again: a flood of questions must not become one of ours."""


class Need(Struct, frozen=True, gc=False):
    """A question, of class IN, that validation needs answered."""

    qname: Name
    qtype: int


class Limits(Struct, frozen=True, gc=False):
    """What is a matter of policy."""

    nsec3_max_iterations: int = 50
    """Of NSEC3 records: those with more prove nothing, and what needed them is insecure (RFC 9276 3.2)."""
    skew_min: int = 3600
    skew_max: int = 86400
    """Seconds that signature dates may be off: a tenth of the lifetime, within these. Both 0 under `override_time`."""
    sha1: bool = True
    """Whether algorithms 5 and 7 are verified, or count as unsupported."""


class World(Struct, frozen=True):
    """All that a judgement reads beside the answer."""

    anchors: AnchorSet
    keys: TrustCache
    limits: Limits
    now: float
    """Monotonic time, seconds: what the cache of trust is kept by."""
    wall: int
    """Seconds since 1970: what signatures and negative anchors are judged at."""
    budget: Budget
    fresh: bool = False
    """Whether zones found bogus a moment ago are looked at again: for a second try with other upstreams."""
    renewing: bool = False
    """Whether zones whose trust is near its end are looked at again, before they have to be."""


def dates_of(world: World) -> Dates:
    """When its signatures are judged."""
    return Dates(world.wall, world.limits.skew_min, world.limits.skew_max)


Fetched = Answer | ResolveError
T = TypeVar("T")
Asking = Generator[tuple[Need, ...], tuple[Fetched, ...], T]

_DENIAL_TYPES = (c.NSEC, c.NSEC3)
_FAILED = (Security.BOGUS, Security.INDETERMINATE)


class Chains:
    """The chains of trust that one client question needs: what was fetched is kept, and not fetched twice."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fetched: dict[Need, Fetched] = {}
        self.blame: list[Need] = []
        """The questions whose answers broke a chain."""
        self.aging: dict[Name, None] = {}
        """The zones whose trust was used near its end."""
        self._dates = dates_of(world)
        self._algorithms = algorithms.supported(world.limits.sha1)

    # Fetching

    def fetch(self, *needs: Need) -> Asking[None]:
        """Have these questions answered, those that are not yet, all at once."""
        missing = tuple(need for need in needs if need not in self.fetched)
        if missing:
            self.world.budget.spend(Cost.FETCHES, len(missing))
            answers = yield missing
            self.fetched.update(zip(missing, answers, strict=True))

    def _response(self, need: Need) -> Answer | tuple[Ede, ...]:
        """The answer at hand, or why there is none to speak of."""
        outcome = self.fetched[need]
        if isinstance(outcome, Answer) and outcome.rcode in (c.NOERROR, c.NXDOMAIN):
            return outcome
        return reasons.of_failed_fetch(need.qname, need.qtype, outcome)

    # Verifying

    def verify(self, rrset: RRset, trust: Trust) -> Verified | Flaw:
        """The RRset if it is signed by this zone, else what is wrong."""
        return verify(rrset, trust.zone, trust.ring, self._dates, self.world.budget)

    def proofs(self, authority: tuple[RRset, ...], trust: Trust) -> tuple[tuple[RRset, ...], Ede | None]:
        """The denial records of this zone that verify; and why the first other one does not."""
        good: list[RRset] = []
        ede: Ede | None = None
        for rrset in authority:
            if rrset.rdtype not in _DENIAL_TYPES or not is_subdomain(rrset.owner, trust.zone):
                continue
            found = self.verify(rrset, trust)
            if isinstance(found, Verified):
                good.append(found.rrset)
            else:
                ede = ede or reasons.of_flaw(rrset.owner, rrset.rdtype, trust.zone, found)
        return tuple(good), ede

    # Walking

    def point_of(self, name: Name) -> TrustAnchor | NegativeAnchor | None:
        """What rules this name."""
        return self.world.anchors.closest(name, self.world.wall)

    def trust_in(self, zone: Name) -> Asking[Trust]:
        """Trust in `zone`, which something claims to be signed by; or in the cut above it where trust ends.

        Its DS and DNSKEY are asked for together; the signer of the DS tells which zone to trust before it.
        """
        point = self.point_of(zone)
        if not isinstance(point, TrustAnchor):
            return untrusted(zone, point)
        start = self._nearest(zone, point.zone)
        own = (Need(zone, c.DS), Need(zone, c.DNSKEY))
        if start is None:
            apex = Need(point.zone, c.DNSKEY)
            yield from self.fetch(apex, *(own if zone != point.zone else ()))
            start = self._primed(point)
        if start.zone == zone or start.security is not Security.SECURE:
            return start
        yield from self.fetch(*own)
        parent = yield from self._parent_that_speaks(start, zone)
        if parent.security is not Security.SECURE or parent.zone == zone:
            return parent
        found = yield from self._across(parent, zone)
        if isinstance(found, NotACut):
            text = f"{to_text(zone)} signs, but is no zone: {to_text(found.zone)} says so"
            self.blame.append(Need(zone, c.DS))
            return Trust(zone, Security.BOGUS, parent.chain, ede=(Ede(c.EDE_BOGUS, text),))
        return found

    def _parent_that_speaks(self, start: Trust, zone: Name) -> Asking[Trust]:
        """The zone above `zone` that signed what there is of its DS, or what a walk down from `start` leads to."""
        response = self._response(Need(zone, c.DS))
        signer = _signer_of_ds(response, zone) if isinstance(response, Answer) else None
        if signer is None or not is_subdomain(signer, start.zone):
            return (yield from self._descend(start, zone))
        if signer == start.zone:
            return start
        return (yield from self.trust_in(signer))

    def trust_over(self, name: Name) -> Asking[Trust]:
        """The deepest zone that `name` is in, found label by label from the anchor down; INSECURE needs a proof at a cut."""
        point = self.point_of(name)
        if not isinstance(point, TrustAnchor):
            return untrusted(name, point)
        start = self._nearest(name, point.zone)
        if start is None:
            yield from self.fetch(Need(point.zone, c.DNSKEY))
            start = self._primed(point)
        return (yield from self._descend(start, name))

    def _descend(self, trust: Trust, name: Name) -> Asking[Trust]:
        for candidate in reversed(tuple(names.suffixes(name))):
            if trust.security is not Security.SECURE:
                break
            if not is_below(candidate, trust.zone):
                continue
            known = self._known(candidate)
            if known is None or (isinstance(known, NotACut) and known.zone != trust.zone):
                yield from self.fetch(Need(candidate, c.DS))
                known = yield from self._across(trust, candidate)
            if isinstance(known, Trust):
                trust = known
            elif known.barren:
                break
        return trust

    def _nearest(self, zone: Name, top: Name) -> Trust | None:
        """The closest zone at or above `zone`, not above `top`, of which something is known."""
        while not isinstance(known := self._known(zone), Trust):
            if zone == top:
                return None
            zone = names.parent(zone)
        return known

    def _known(self, name: Name) -> Trust | NotACut | None:
        known = self.world.keys.get(name, self.world.now)
        if isinstance(known, Trust):
            if self.world.fresh and known.security in _FAILED:
                return None
            if known.aging <= self.world.now:
                self.aging[name] = None
                return None if self.world.renewing else known
        return known

    # One cut

    def _across(self, parent: Trust, child: Name) -> Asking[Trust | NotACut]:
        """What the parent says of `child`, by the DS response at hand (RFC 4035 5.2)."""
        need = Need(child, c.DS)
        response = self._response(need)
        if not isinstance(response, Answer):
            self.blame.append(need)
            return Trust(child, Security.INDETERMINATE, parent.chain, ede=response)
        found = self._delegation(parent, child, response)
        if isinstance(found, tuple):
            self.blame.append(need)
            return self._broken(child, parent.chain, *found)
        if not isinstance(found, Verified):
            self.world.keys.put(child, found)
            return found
        records = _readable(read_ds_untrusted, found.rrset.rdatas)
        usable = usable_ds(records, self._algorithms)
        if not usable:
            return self._unsupported(child, parent.chain, records, found.rrset)
        yield from self.fetch(Need(child, c.DNSKEY))
        return self._with_keys(child, parent.chain, usable, (), found.rrset)

    def _delegation(self, parent: Trust, child: Name, response: Answer) -> Verified | Trust | NotACut | tuple[Ede, ...]:
        """The DS RRset; or what is proven of its absence; or what is wrong."""
        for rrset in response.answer:
            if rrset.owner != child or rrset.rdtype not in (c.DS, c.CNAME):
                continue
            verified = self.verify(rrset, parent)
            if isinstance(verified, Flaw):
                return (reasons.of_flaw(child, rrset.rdtype, parent.zone, verified),)
            if rrset.rdtype == c.CNAME:
                return NotACut(parent.zone, self._until(Need(child, c.DS), verified.rrset))
            if verified.expanded:
                return (Ede(c.EDE_BOGUS, f"{reasons.record(child, c.DS)}: made from a wildcard (zone {to_text(parent.zone)})"),)
            return verified
        return self._no_delegation(parent, child, response)

    def _no_delegation(self, parent: Trust, child: Name, response: Answer) -> Trust | NotACut | tuple[Ede, ...]:
        proofs, ede = self.proofs(response.authority, parent)
        limit, budget = self.world.limits.nsec3_max_iterations, self.world.budget
        proof = denial.prove_no_ds(child, proofs, parent.zone, max_iterations=limit, budget=budget)
        until = self._until(Need(child, c.DS), *(proof.used or proofs))
        if proof.kind is ProofKind.NOT_A_CUT:
            return NotACut(parent.zone, until, barren=proof.closest_encloser is not None)
        if proof.kind in (ProofKind.NO_DS, ProofKind.OPT_OUT, ProofKind.UNSUPPORTED):
            link = Link(child, Security.INSECURE, None, None, note=f"no DS, {proof.reason}")
            return Trust(child, Security.INSECURE, (*parent.chain, link), ede=of_proof(proof, parent.zone), expires=until)
        return unproven(child, c.DS, parent.zone, proof, ede)

    def _until(self, source: Need, *rrsets: RRset) -> float:
        """When these, of the answer to `source`, expire; what was cached on the way is older than now."""
        outcome = self.fetched[source]
        born = outcome.born if isinstance(outcome, Answer) else self.world.now
        return born + min((rrset.ttl for rrset in rrsets), default=0)

    # Keys

    def _primed(self, anchor: TrustAnchor) -> Trust:
        """Trust in an anchor's zone, by the DNSKEY response at hand."""
        digests = usable_ds(anchor.digests, self._algorithms)
        keys = tuple(key for key in anchor.keys if key.algorithm in self._algorithms)
        if not digests and not keys:
            records = (*anchor.digests, *(Ds(key.tag, key.algorithm, 2, b"") for key in anchor.keys))
            return self._unsupported(anchor.zone, (), records, None)
        return self._with_keys(anchor.zone, (), digests, keys, None)

    def _with_keys(
        self, zone: Name, above: tuple[Link, ...], digests: list[Ds], keys: tuple[Key, ...], ds: RRset | None
    ) -> Trust:
        """Trust in a zone whose DNSKEY RRset is signed by a key that these digests, or anchors, name (RFC 4035 5.2)."""
        need = Need(zone, c.DNSKEY)
        response = self._response(need)
        missing = Ede(c.EDE_DNSKEY_MISSING, f"no DNSKEY for the zone {to_text(zone)}, which must be signed")
        if not isinstance(response, Answer):
            self.blame.append(need)
            return Trust(zone, Security.INDETERMINATE, above, ede=(missing, *response))
        rrset = next((rrset for rrset in response.answer if rrset.owner == zone and rrset.rdtype == c.DNSKEY), None)
        found = self._verified_keys(rrset, digests, keys) if rrset else missing
        if isinstance(found, Ede):
            self.blame += [need, Need(zone, c.DS)] if ds else [need]
            return self._broken(zone, above, found)
        link = Link(
            zone,
            Security.SECURE,
            ds,
            found.rrset,
            found.key.tag,
            found.key.algorithm,
            f"DS {found.key.tag} matched" if ds else "trust anchor",
        )
        ring = KeyRing(_readable(read_key_untrusted, found.rrset.rdatas))
        until = min(self._until(need, found.rrset), self.world.now + MAX_TRUST)
        if ds is not None:
            until = min(until, self._until(Need(zone, c.DS), ds))
        aging = until - AGING * (until - self.world.now)
        return self._keep(Trust(zone, Security.SECURE, (*above, link), ring, expires=until, aging=aging))

    def _verified_keys(self, rrset: RRset, digests: list[Ds], anchored: tuple[Key, ...]) -> Verified | Ede:
        zone = rrset.owner
        ring = KeyRing(_readable(read_key_untrusted, rrset.rdatas))
        trusted = KeyRing((*anchored, *self._matching(zone, ring, digests)))
        if not len(trusted):
            return _no_match(zone, ring, digests)
        found = verify(rrset, zone, trusted, self._dates, self.world.budget)
        if isinstance(found, Verified):
            return found
        if found.code == c.EDE_DNSKEY_MISSING:
            found = Flaw(c.EDE_DNSKEY_MISSING, "no RRSIG is by a key that the DS or trust anchor names")
        return reasons.of_flaw(zone, c.DNSKEY, zone, found)

    def _matching(self, zone: Name, ring: KeyRing, digests: list[Ds]) -> list[Key]:
        found = []
        for ds in digests:
            for key in ring.find(ds.key_tag, ds.algorithm):
                self.world.budget.spend(Cost.DIGESTS)
                if ds.names(zone, key):
                    found.append(key)
        return found

    def _unsupported(self, zone: Name, above: tuple[Link, ...], records: Iterable[Ds], ds: RRset | None) -> Trust:
        """A zone that is signed with nothing that we know is insecure (RFC 4035 5.2, RFC 6840 5.2)."""
        digest = next((ds for ds in records if ds.algorithm in self._algorithms and not known_digest(ds.digest_type)), None)
        if digest is not None:
            what = DIGEST_NAMES.get(digest.digest_type, f"type {digest.digest_type}")
            ede = Ede(c.EDE_UNSUPPORTED_DS_DIGEST, f"the DS of {to_text(zone)} has the digest {what} only")
        else:
            known = ", ".join(sorted({algorithms.name_of(ds.algorithm) for ds in records})) or "no readable DS"
            ede = Ede(c.EDE_UNSUPPORTED_DNSKEY_ALGORITHM, f"the zone {to_text(zone)} is signed with {known} only")
        link = Link(zone, Security.INSECURE, ds, None, note=ede.text)
        until = self._until(Need(zone, c.DS), ds) if ds else self.world.now + MAX_TRUST
        return self._keep(Trust(zone, Security.INSECURE, (*above, link), ede=(ede,), expires=until))

    def _broken(self, zone: Name, above: tuple[Link, ...], *ede: Ede) -> Trust:
        link = Link(zone, Security.BOGUS, None, None, note=ede[0].text)
        return self._keep(Trust(zone, Security.BOGUS, (*above, link), ede=ede, expires=self.world.now + BOGUS_TIME))

    def _keep(self, trust: Trust) -> Trust:
        """Remember it; but what cannot be renewed is trusted to its end."""
        if trust.security is not Security.BOGUS or trust.zone not in self.aging:
            self.world.keys.put(trust.zone, trust)
        return trust


def untrusted(name: Name, point: NegativeAnchor | None) -> Trust:
    """Insecure for want of an anchor, or because of a negative one (RFC 4035 4.3, RFC 7646 2)."""
    if point is None:
        return Trust(name, Security.INSECURE)
    why = f"{reasons.NEGATIVE_ANCHOR} {to_text(point.name)}" + (f": {point.reason}" if point.reason else "")
    link = Link(point.name, Security.INSECURE, None, None, note=why)
    return Trust(point.name, Security.INSECURE, (link,), ede=(Ede(c.EDE_OTHER, why),))


def of_proof(proof: Proof, zone: Name) -> tuple[Ede, ...]:
    """What a client is told of a proof that makes the answer insecure."""
    if proof.kind is ProofKind.UNSUPPORTED:
        return (Ede(c.EDE_UNSUPPORTED_NSEC3_ITERATIONS, f"{proof.reason} (zone {to_text(zone)})"),)
    return ()


def unproven(name: Name, rdtype: int, zone: Name, proof: Proof, flaw: Ede | None) -> tuple[Ede, ...]:
    """That nothing proves the absence of a record; `flaw` is of a denial record that does not verify."""
    text = f"{reasons.record(name, rdtype)}: its absence is not proven: {proof.reason} (zone {to_text(zone)})"
    if flaw is not None:
        return flaw, Ede(c.EDE_NSEC_MISSING, text)
    return Ede(c.EDE_NSEC_MISSING, text), Ede(c.EDE_BOGUS)


def _no_match(zone: Name, ring: KeyRing, digests: list[Ds]) -> Ede:
    for ds in digests:
        key = ring.why_unusable(ds.key_tag, ds.algorithm)
        if key is not None and not key.flags & 0x0100:
            return Ede(c.EDE_NO_ZONE_KEY_BIT, f"key {key.tag} of {to_text(zone)}, which its DS names, is no zone key")
    tags = ", ".join(str(ds.key_tag) for ds in digests)
    return Ede(c.EDE_DNSKEY_MISSING, f"no DNSKEY of {to_text(zone)} matches its DS or trust anchor (key {tags})")


def _signer_of_ds(response: Answer, zone: Name) -> Name | None:
    """The zone above `zone` that signed its DS RRset, or the records that may deny it."""
    above = names.parent(zone)
    told = tuple(rrset for rrset in response.answer if rrset.owner == zone and rrset.rdtype in (c.DS, c.CNAME))
    told = told or tuple(rrset for rrset in response.authority if rrset.rdtype in _DENIAL_TYPES)
    return signer_above(told, above)


R = TypeVar("R")


def _readable(read: Callable[[bytes], R], rdatas: Iterable[bytes]) -> list[R]:
    """Those records that can be read; a malformed one beside good ones harms nobody."""
    found = []
    for rdata in rdatas:
        try:
            found.append(read(rdata))
        except MalformedMessage:
            continue
    return found
