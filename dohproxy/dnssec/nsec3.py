"""What NSEC3 records prove (RFC 5155 8, RFC 6840 4, RFC 9276)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice
from typing import Final

from msgspec import Struct

from dohproxy.dnssec import bitmap as bits
from dohproxy.dnssec.budget import Budget, Cost
from dohproxy.dnssec.nsec import cut_or_not, ds_denied, signed_owner, type_denied
from dohproxy.dnssec.proof import NOTHING_TO_READ, Proof, ProofKind
from dohproxy.dnssec.quick import label_count
from dohproxy.errors import MalformedMessage
from dohproxy.model import Name, RRset
from dohproxy.wire import names
from dohproxy.wire.constants import NSEC3

SHA1 = 1
"""The one hash algorithm of the registry (RFC 5155 11)."""
DIGEST_SIZE = 20
OPT_OUT = 1
"""The one flag (RFC 5155 3.1.2.1)."""
MAX_SETS = 4
"""Parameter sets that are tried: a zone has two while it changes its salt (RFC 5155 10.4); more would be a waste of hashes."""


_AT_HAND: Final = 64
"""RRsets that are not read again: one is looked at several times, and some are repeated from answer to answer."""


class Parameters(Struct, frozen=True, gc=False):
    """How names are hashed."""

    salt: bytes
    iterations: int


class Nsec3(Struct, frozen=True, gc=False):
    """One NSEC3 record."""

    owner: bytes
    """The hash that its first label tells."""
    next: bytes
    opt_out: bool
    types: bytes
    parameters: Parameters
    rrset: RRset

    def covers(self, digest: bytes) -> bool:
        """Whether the hash falls between owner and next; the last record wraps around to the first (RFC 5155 1.3)."""
        if self.owner < self.next:
            return self.owner < digest < self.next
        return digest > self.owner or digest < self.next


class Chain(Struct, frozen=True):
    """Records of one zone with the same parameters: proofs are made within one such set only (RFC 5155 8.2)."""

    zone: Name
    parameters: Parameters
    records: tuple[Nsec3, ...]
    budget: Budget

    def hash(self, name: Name) -> bytes:
        """The name's hash, paid for from the budget; raises BudgetExhausted."""
        key = (name, self.parameters.salt, self.parameters.iterations)
        digest = self.budget.hashes.get(key)
        if digest is None:
            self.budget.spend(Cost.HASHES)
            digest = self.budget.hashes[key] = hash_name(*key)
        return digest

    def matching(self, name: Name) -> Nsec3 | None:
        """The record that matches the name."""
        digest = self.hash(name)
        for record in self.records:
            if record.owner == digest:
                return record
        return None

    def covering(self, name: Name) -> Nsec3 | None:
        """The record that covers the name; one without opt-out if there is one."""
        digest = self.hash(name)
        found: Nsec3 | None = None
        for record in self.records:
            if record.covers(digest) and (found is None or found.opt_out):
                if not record.opt_out:
                    return record
                found = found or record
        return found


class Records(Struct, frozen=True):
    """The usable NSEC3 records of a response by parameters, and the RRsets of those that ask for too many iterations."""

    chains: tuple[Chain, ...]
    beyond_limit: tuple[RRset, ...] = ()

    def attempt(self, prove: Callable[[Chain], Proof]) -> Proof:
        """The first proof that one set of records makes; else the last complaint, or UNSUPPORTED."""
        outcome = NOTHING_TO_READ
        for chain in self.chains:
            outcome = prove(chain)
            if outcome.proven:
                return outcome
        if self.beyond_limit:
            reason = "NSEC3 with more iterations than are done here"
            return Proof(ProofKind.UNSUPPORTED, reason, secure=False, used=self.beyond_limit)
        return outcome


class Encloser(Struct, frozen=True):
    """A closest encloser proof (RFC 5155 8.3): what matches the encloser, and what covers the next closer name."""

    name: Name
    matching: Nsec3
    covering: Nsec3

    @property
    def secure(self) -> bool:
        """Whether no opt-out span covers the next closer name (RFC 5155 9.2)."""
        return not self.covering.opt_out

    @property
    def wildcard(self) -> Name:
        """The source of synthesis; there is room for it where there is room for a name below the encloser."""
        return names.wildcard_of(self.name)


def hash_name(name: Name, salt: bytes, iterations: int) -> bytes:
    """The hash of a lower-case name: SHA-1, `iterations` times more than once (RFC 5155 5)."""
    digest = hashlib.sha1(name + salt, usedforsecurity=False).digest()
    for _ in range(iterations):
        digest = hashlib.sha1(digest + salt, usedforsecurity=False).digest()
    return digest


def read(proofs: Iterable[RRset], zone: Name, max_iterations: int, budget: Budget) -> Records:
    """The NSEC3 records of `zone` among these, by parameters; what makes no sense as such is passed over."""
    sets: dict[Parameters, list[Nsec3]] = {}
    beyond: dict[RRset, None] = {}
    for rrset in proofs:
        for record in read_rrset(rrset, zone) if rrset.rdtype == NSEC3 else ():
            if record.parameters.iterations > max_iterations:
                beyond[rrset] = None
            else:
                sets.setdefault(record.parameters, []).append(record)
    chains = (Chain(zone, parameters, tuple(records), budget) for parameters, records in islice(sets.items(), MAX_SETS))
    return Records(tuple(chains), tuple(beyond))


@lru_cache(_AT_HAND)
def read_rrset(rrset: RRset, zone: Name) -> tuple[Nsec3, ...]:
    """The usable records of one NSEC3 RRset: it must stand right below the apex, and not come from a wildcard."""
    digest = owner_digest(rrset.owner, zone)
    if digest is None or signed_owner(rrset) != rrset.owner:
        return ()
    found = []
    for rdata in rrset.rdatas:
        try:
            found.append(_record_untrusted(rrset, digest, rdata))
        except MalformedMessage:
            continue  # it proves nothing: the same as its not being there
    return tuple(found)


def owner_digest(owner: Name, zone: Name) -> bytes | None:
    """The hash in the first label of an NSEC3's owner, in base32hex (RFC 5155 3.3); None if there is none below `zone`."""
    label = owner[1 : owner[0] + 1]
    if len(label) != 32 or names.parent(owner) != zone:
        return None
    try:
        return int(label, 32).to_bytes(DIGEST_SIZE) if label.isalnum() else None
    except ValueError:  # a letter beyond v
        return None


def _record_untrusted(rrset: RRset, digest: bytes, rdata: bytes) -> Nsec3:
    """One record; raises MalformedMessage, also for an unknown algorithm or flag, which RFC 5155 8.1 and 8.2 ignore."""
    if len(rdata) < 6 or len(rdata) < 6 + rdata[4]:
        raise MalformedMessage("an NSEC3 record is cut short")
    if rdata[0] != SHA1 or rdata[1] & ~OPT_OUT:
        raise MalformedMessage("an NSEC3 record has an unknown algorithm or flag")
    at = 5 + rdata[4]
    after = rdata[at + 1 : at + 1 + DIGEST_SIZE]
    if rdata[at] != DIGEST_SIZE or len(after) != DIGEST_SIZE:
        raise MalformedMessage("an NSEC3 record's hash has a wrong length")
    parameters = Parameters(rdata[5:at], rdata[2] << 8 | rdata[3])
    types = bits.read_untrusted(rdata, at + 1 + DIGEST_SIZE)
    return Nsec3(digest, after, bool(rdata[1] & OPT_OUT), types, parameters, rrset)


def prove_nonexistence(qname: Name, qtype: int, records: Records) -> Proof:
    """NODATA, NXDOMAIN or WILDCARD_NODATA, whichever one set of records shows."""

    def prove(chain: Chain) -> Proof:
        nxdomain = _nxdomain(qname, chain)
        if nxdomain.proven:
            return nxdomain
        nodata = _nodata(qname, qtype, chain)
        return nodata if nodata.proven or chain.matching(qname) else nxdomain

    return records.attempt(prove)


def prove_nxdomain(qname: Name, records: Records) -> Proof:
    """The closest encloser exists, the next closer name and the wildcard do not (RFC 5155 8.4)."""
    return records.attempt(lambda chain: _nxdomain(qname, chain))


def _nxdomain(qname: Name, chain: Chain) -> Proof:
    itself = chain.matching(qname)
    if itself and bits.says_nxname(itself.types):
        return Proof(ProofKind.NXDOMAIN, "NSEC3 matches the name and says NXNAME", used=(itself.rrset,))
    encloser = find_encloser(qname, chain)
    if isinstance(encloser, Proof):
        return encloser
    denied = chain.covering(encloser.wildcard)
    if denied is None or chain.matching(encloser.wildcard):
        return Proof.none(f"the wildcard at the closest encloser {names.to_text(encloser.name)} is not denied")
    return Proof(
        ProofKind.NXDOMAIN,
        "NSEC3 covers the name and its wildcard" + _remark(encloser),
        encloser.secure,
        encloser.name,
        _rrsets(encloser.matching, encloser.covering, denied),
    )


def prove_nodata(qname: Name, qtype: int, records: Records) -> Proof:
    """The name (RFC 5155 8.5, 8.6) or its wildcard (8.7) lacks the type, or the name is in an opt-out span."""
    return records.attempt(lambda chain: _nodata(qname, qtype, chain))


def _nodata(qname: Name, qtype: int, chain: Chain) -> Proof:
    if itself := chain.matching(qname):
        return type_denied(qname, itself.types, qtype) or Proof(
            ProofKind.NODATA, "NSEC3 matches the name without the type", used=(itself.rrset,)
        )
    encloser = find_encloser(qname, chain)
    if isinstance(encloser, Proof):
        return encloser
    if source := chain.matching(encloser.wildcard):
        return type_denied(encloser.wildcard, source.types, qtype) or Proof(
            ProofKind.WILDCARD_NODATA,
            "NSEC3 covers the name and matches its wildcard without the type" + _remark(encloser),
            encloser.secure,
            encloser.name,
            _rrsets(encloser.matching, encloser.covering, source),
        )
    return _nodata_by_opt_out(encloser)


def _nodata_by_opt_out(encloser: Encloser) -> Proof:
    """NODATA without a record of the name's own: an unsigned delegation, or an empty non-terminal above such only.

    Only an opt-out span leaves these out (RFC 5155 7.1 and 8.6; erratum 3441 tells of the empty non-terminal).
    """
    if encloser.secure:
        return Proof.none("NSEC3 covers the name without opt-out: it does not exist")
    return Proof(
        ProofKind.NODATA,
        "NSEC3 covers the name with opt-out",
        secure=False,
        closest_encloser=encloser.name,
        used=_rrsets(encloser.matching, encloser.covering),
    )


def prove_no_closer_match(qname: Name, labels: int, records: Records) -> Proof:
    """The next closer name below the wildcard's encloser, of `labels` labels, does not exist (RFC 5155 8.8)."""
    return records.attempt(lambda chain: _no_closer_match(qname, labels, chain))


def _no_closer_match(qname: Name, labels: int, chain: Chain) -> Proof:
    if not label_count(chain.zone) <= labels < label_count(qname):
        return Proof.none("the answer was not expanded from a wildcard of the zone")
    covering = chain.covering(names.last_labels(qname, labels + 1))
    if covering is None:
        return Proof.none("no NSEC3 record covers the next closer name")
    return Proof(
        ProofKind.NXDOMAIN,
        "NSEC3 shows that no closer name exists" + (" (opt-out)" if covering.opt_out else ""),
        not covering.opt_out,
        names.last_labels(qname, labels),
        (covering.rrset,),
    )


def prove_no_ds(name: Name, records: Records) -> Proof:
    """What the parent's NSEC3 records say of a missing DS: NO_DS, NOT_A_CUT, OPT_OUT or NONE (RFC 5155 8.6, 8.9)."""
    return records.attempt(lambda chain: _no_ds(name, chain))


def _no_ds(name: Name, chain: Chain) -> Proof:
    if itself := chain.matching(name):
        return ds_denied(itself.types) or Proof(*cut_or_not(itself.types, "NSEC3"), used=(itself.rrset,))
    encloser = find_encloser(name, chain)
    if isinstance(encloser, Proof):
        return encloser
    used = _rrsets(encloser.matching, encloser.covering)
    if encloser.secure:
        reason = "NSEC3 covers the name without opt-out: no delegation there"
        return Proof(ProofKind.NOT_A_CUT, reason, closest_encloser=encloser.name, used=used)
    reason = "NSEC3 covers the name with opt-out"
    return Proof(ProofKind.OPT_OUT, reason, secure=False, closest_encloser=encloser.name, used=used)


def find_encloser(qname: Name, chain: Chain) -> Encloser | Proof:
    """The closest encloser proof for a name that no record matches, or what is wrong (RFC 5155 8.3).

    Looks from the apex down, for a long name costs its asker nothing: a proof is found at one hash a label of the encloser.
    No name on the way may be a delegation or have a DNAME.
    """
    above: Nsec3 | None = None
    complaint = "no NSEC3 record covers the next closer name"
    for name in downward(qname, chain.zone):
        if here := chain.matching(name):
            if name != qname and bits.hides_below(here.types):
                return Proof.none("NSEC3 of a delegation or DNAME above the name says nothing about it")
        elif covering := chain.covering(name):
            if above:
                return Encloser(names.parent(name), above, covering)
            complaint = f"no NSEC3 record matches the closest encloser {names.to_text(names.parent(name))}"
        above = here
    return Proof.none("an NSEC3 record matches the name: it exists" if above else complaint)


def downward(qname: Name, zone: Name) -> list[Name]:
    """The names from the apex down to `qname`."""
    path, at, apex = [qname], 0, len(qname) - len(zone)
    while at < apex:
        at += qname[at] + 1
        path.append(qname[at:])
    path.reverse()
    return path


def _remark(encloser: Encloser) -> str:
    return "" if encloser.secure else " (opt-out)"


def _rrsets(*records: Nsec3) -> tuple[RRset, ...]:
    """The RRsets of these, each once."""
    return tuple(dict.fromkeys(record.rrset for record in records))
