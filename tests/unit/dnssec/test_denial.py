"""Denial over whole zones: whatever is absent can be proven so, and whatever is there never, with any of the zone's records."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from dohproxy.dnssec import bitmap, denial, nsec3
from dohproxy.dnssec.budget import DEFAULT_LIMITS, Budget, Cost
from dohproxy.dnssec.proof import Proof, ProofKind
from dohproxy.model import Name, RRset
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text, is_below, is_wildcard, label_count, last_labels, order, parent, wildcard_of

EXAMPLE = from_text("example.")
APEX_TYPES = frozenset((c.NS, c.SOA, c.DNSKEY))
TYPES = (c.A, c.TXT, c.CNAME, c.DNAME, c.NS, c.DS, c.ANY)
EXISTS, ELSEWHERE = "exists", "elsewhere"
Parameters = tuple[bytes, int]


def rrsig(rdtype: int, labels: int) -> bytes:
    return rdtype.to_bytes(2, "big") + bytes((13, labels)) + bytes(14) + EXAMPLE + bytes(64)


class Zone:
    """What a zone holds, and what an authoritative server would say of it (RFC 4592 3, RFC 4035 3.1)."""

    def __init__(self, data: dict[Name, frozenset[int]]) -> None:
        self.data = {EXAMPLE: APEX_TYPES} | data
        self.cuts = [name for name, types in self.data.items() if (c.NS in types and c.SOA not in types) or c.DNAME in types]
        self.data = {name: types for name, types in self.data.items() if not self.elsewhere(name)}
        self.names = {ancestor for name in self.data for ancestor in self._ancestors(name)}

    @staticmethod
    def _ancestors(name: Name) -> Iterable[Name]:
        while name != EXAMPLE:
            yield name
            name = parent(name)
        yield EXAMPLE

    def elsewhere(self, name: Name) -> bool:
        return any(is_below(name, cut) for cut in self.cuts)

    def encloser(self, name: Name) -> Name:
        while name not in self.names:
            name = parent(name)
        return name

    def truth(self, qname: Name, qtype: int) -> ProofKind | str:
        if self.elsewhere(qname) or (qname == EXAMPLE and qtype == c.DS):
            return ELSEWHERE
        if qname in self.names:
            return ProofKind.NODATA if self._lacks(qname, qtype) else EXISTS
        wildcard = wildcard_of(self.encloser(qname))
        if wildcard in self.names:
            return ProofKind.WILDCARD_NODATA if self._lacks(wildcard, qtype) else EXISTS
        return ProofKind.NXDOMAIN

    def _lacks(self, name: Name, qtype: int) -> bool:
        types = self.data.get(name, frozenset())
        if c.NS in types and c.SOA not in types:
            return qtype == c.DS and c.DS not in types
        return not types if qtype == c.ANY else qtype not in types and c.CNAME not in types

    def ds_truth(self, name: Name) -> ProofKind | str:
        types = self.data.get(name, frozenset())
        if self.elsewhere(name) or name == EXAMPLE or c.DS in types:
            return ELSEWHERE
        return ProofKind.NO_DS if c.NS in types else ProofKind.NOT_A_CUT

    def nsecs(self) -> dict[Name, RRset]:
        owners = sorted(self.data, key=order)
        return {
            owner: nsec(owner, after, self.data[owner] | {c.RRSIG, c.NSEC})
            for owner, after in zip(owners, owners[1:] + owners[:1], strict=True)
        }

    def nsec3s(self, opt_out: bool, salt: bytes, iterations: int) -> list[RRset]:
        hidden = {name for name, types in self.data.items() if opt_out and types == {c.NS}}
        owners = {ancestor for name in self.data if name not in hidden for ancestor in self._ancestors(name)}
        self.hashed = owners
        by_hash = sorted((nsec3.hash_name(name, salt, iterations), name) for name in owners)
        return [
            nsec3_record(digest, after, self._types3(name), opt_out, (salt, iterations))
            for (digest, name), (after, _) in zip(by_hash, by_hash[1:] + by_hash[:1], strict=True)
        ]

    def _types3(self, name: Name) -> frozenset[int]:
        types = self.data.get(name, frozenset())
        return types | {c.RRSIG} if types and types != {c.NS} else types


def nsec(owner: Name, after: Name, types: Iterable[int], expanded_from: Name | None = None) -> RRset:
    signed = expanded_from or owner
    labels = label_count(signed) - is_wildcard(signed)
    return RRset(owner, c.NSEC, 3600, (after + bitmap.build(types),), (rrsig(c.NSEC, labels),))


def nsec3_record(digest: bytes, after: bytes, types: Iterable[int], opt_out: bool, parameters: Parameters) -> RRset:
    salt, iterations = parameters
    owner = b"\x20" + base64.b32hexencode(digest).lower() + EXAMPLE
    rdata = bytes((1, opt_out)) + iterations.to_bytes(2, "big") + bytes((len(salt),)) + salt + b"\x14" + after
    return RRset(owner, c.NSEC3, 3600, (rdata + bitmap.build(types),), (rrsig(c.NSEC3, label_count(owner)),))


labels = st.sampled_from([b"\1a", b"\1b", b"\1c", b"\1*"])
below_apex = st.lists(labels, min_size=1, max_size=3).map(lambda parts: b"".join(parts) + EXAMPLE)
plain = st.sets(st.sampled_from([c.A, c.TXT, c.CAA]), min_size=1).map(frozenset)
special = st.sampled_from([frozenset(t) for t in ([c.NS], [c.NS, c.DS], [c.CNAME], [c.DNAME], [c.A, c.DNAME])])


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    """Wildcards own plain data or an alias only: RFC 4592 4 leaves NS and DNAME there undefined."""
    owners = draw(st.lists(below_apex, max_size=7, unique=True))
    alias = st.just(frozenset((c.CNAME,)))
    return Zone({owner: draw(plain | alias if is_wildcard(owner) else plain | special) for owner in owners})


def budget() -> Budget:
    return Budget({**DEFAULT_LIMITS, Cost.HASHES: 10_000})


def every_proof(qname: Name, qtype: int, records: tuple[RRset, ...]) -> list[Proof]:
    rest = {"max_iterations": 50, "budget": budget()}
    return [
        denial.prove_nonexistence(qname, qtype, records, EXAMPLE, **rest),
        denial.prove_nxdomain(qname, records, EXAMPLE, **rest),
        denial.prove_nodata(qname, qtype, records, EXAMPLE, **rest),
    ]


def no_ds(name: Name, records: tuple[RRset, ...]) -> Proof:
    return denial.prove_no_ds(name, records, EXAMPLE, max_iterations=50, budget=budget())


def no_closer(qname: Name, count: int, records: tuple[RRset, ...]) -> Proof:
    return denial.prove_no_closer_match(qname, count, records, EXAMPLE, max_iterations=50, budget=budget())


def check_sound(zone: Zone, qname: Name, qtype: int, records: tuple[RRset, ...]) -> None:
    """Nothing is proven but the truth; without security only of names that the chain leaves out (opt-out)."""
    truth = zone.truth(qname, qtype)
    for proof in every_proof(qname, qtype, records):
        if proof.proven and proof.secure:
            assert proof.kind is truth, (proof, truth)
        elif proof.proven:
            assert qname not in zone.hashed
    proof = no_ds(qname, records)
    if proof.proven and proof.secure:
        assert proof.kind is zone.ds_truth(qname), proof
    elif proof.proven:
        assert proof.kind is ProofKind.OPT_OUT
        assert qname not in zone.hashed
    for count in range(1, label_count(qname)):
        if wildcard_of(last_labels(qname, count)) in zone.data:  # or there is no such answer to begin with
            proof = no_closer(qname, count, records)
            closer = last_labels(qname, count + 1)
            assert not (proof.proven and proof.secure) or not (closer in zone.names or zone.elsewhere(closer))


def expansions(zone: Zone, names: list[Name]) -> list[RRset]:
    """What a server may be made to say of wildcards' NSEC records: the same, at any name (RFC 4035 3.1.3.3)."""
    chain = zone.nsecs()
    return [
        RRset(name, c.NSEC, 3600, chain[wildcard].rdatas, chain[wildcard].signatures)
        for wildcard in chain
        for name in names
        if is_wildcard(wildcard) and is_below(name, parent(wildcard)) and name != wildcard
    ]


questions = st.lists(st.tuples(below_apex | st.just(EXAMPLE), st.sampled_from(TYPES)), min_size=1, max_size=5)
played = settings(max_examples=120, deadline=None, derandomize=True)


@played
@given(zones(), questions, st.data())
def test_no_part_of_an_nsec_chain_denies_what_is_there(zone: Zone, asked: list[tuple[Name, int]], data: st.DataObject) -> None:
    zone.hashed = set()
    pool = [*zone.nsecs().values(), *expansions(zone, [qname for qname, _ in asked])]
    subset = tuple(data.draw(st.lists(st.sampled_from(pool), max_size=len(pool), unique_by=id)))
    for qname, qtype in asked:
        check_sound(zone, qname, qtype, subset)
        check_sound(zone, qname, qtype, tuple(pool))


@played
@given(zones(), questions, st.booleans(), st.data())
def test_no_part_of_an_nsec3_chain_denies_what_is_there(
    zone: Zone, asked: list[tuple[Name, int]], opt_out: bool, data: st.DataObject
) -> None:
    pool = [*zone.nsec3s(opt_out, b"\xab", 1), *zone.nsec3s(opt_out, b"", 0)]
    subset = tuple(data.draw(st.lists(st.sampled_from(pool), max_size=len(pool), unique_by=id)))
    for qname, qtype in asked:
        check_sound(zone, qname, qtype, subset)
        check_sound(zone, qname, qtype, tuple(pool))


@played
@given(zones(), questions, st.data())
def test_no_mixture_of_both_denies_what_is_there(zone: Zone, asked: list[tuple[Name, int]], data: st.DataObject) -> None:
    pool = [*zone.nsecs().values(), *zone.nsec3s(False, b"", 0)]
    subset = tuple(data.draw(st.lists(st.sampled_from(pool), max_size=len(pool), unique_by=id)))
    for qname, qtype in asked:
        check_sound(zone, qname, qtype, subset)


def from_nsec(zone: Zone, *names: Name) -> tuple[RRset, ...]:
    """The records that match or cover these names, as a server would put them in."""
    owners = sorted(zone.nsecs(), key=order)
    found = {max((owner for owner in owners if order(owner) <= order(name)), key=order) for name in names}
    return tuple(zone.nsecs()[owner] for owner in found)


def from_nsec3(chain: list[RRset], *names: Name) -> tuple[RRset, ...]:
    def low(rrset: RRset) -> bytes:
        digest = nsec3.owner_digest(rrset.owner, EXAMPLE)
        assert digest is not None
        return digest

    found = {}
    for name in names:
        digest = nsec3.hash_name(name, b"", 0)
        at_or_before = [rrset for rrset in chain if low(rrset) <= digest] or chain
        rrset = max(at_or_before, key=low)
        found[rrset.owner] = rrset
    return tuple(found.values())


def check_complete(zone: Zone, qname: Name, qtype: int, records: tuple[RRset, ...]) -> None:
    truth = zone.truth(qname, qtype)
    either, nxdomain, nodata = every_proof(qname, qtype, records)
    if isinstance(truth, ProofKind):
        assert either.kind is truth, either
        assert either.secure
        assert (nxdomain if truth is ProofKind.NXDOMAIN else nodata).kind is truth
        assert set(either.used) <= set(records)
    ds_truth = zone.ds_truth(qname)
    if isinstance(ds_truth, ProofKind):
        assert no_ds(qname, records).kind is ds_truth
    if qname not in zone.names and not zone.elsewhere(qname):
        assert no_closer(qname, label_count(zone.encloser(qname)), records).kind is ProofKind.NXDOMAIN


@played
@given(zones(), questions)
def test_what_a_server_of_an_nsec_zone_sends_is_proof(zone: Zone, asked: list[tuple[Name, int]]) -> None:
    for qname, qtype in asked:
        wildcard = wildcard_of(zone.encloser(qname))
        records = from_nsec(zone, qname) if qname in zone.names else from_nsec(zone, qname, wildcard)
        check_complete(zone, qname, qtype, records)


@played
@given(zones(), questions)
def test_what_a_server_of_an_nsec3_zone_sends_is_proof(zone: Zone, asked: list[tuple[Name, int]]) -> None:
    chain = zone.nsec3s(False, b"", 0)
    for qname, qtype in asked:
        encloser = zone.encloser(qname)
        closer = last_labels(qname, label_count(encloser) + 1)
        wanted = (qname,) if qname in zone.names else (encloser, closer, wildcard_of(encloser))
        check_complete(zone, qname, qtype, from_nsec3(chain, *wanted))


# Both kinds in one response


A_HALF = nsec(from_text("h.example."), from_text("m.example."), (c.A, c.RRSIG, c.NSEC))
"""Covers k.example. and not its wildcard."""


def test_halves_of_two_proofs_make_none() -> None:
    digest = nsec3.hash_name(from_text("*.example."), b"", 0)
    other_half = nsec3_record(bytes(20), b"\xff" * 20, (), False, (b"", 0))
    assert bytes(20) < digest < b"\xff" * 20
    proof = denial.prove_nxdomain(from_text("k.example."), (A_HALF, other_half), EXAMPLE, max_iterations=50, budget=budget())
    assert proof.kind is ProofKind.NONE


def test_a_proof_of_one_kind_is_enough() -> None:
    zone = Zone({from_text("h.example."): frozenset((c.A,))})
    records = (A_HALF, *zone.nsec3s(False, b"", 0))
    proof = denial.prove_nxdomain(from_text("k.example."), records, EXAMPLE, max_iterations=50, budget=budget())
    assert proof.kind is ProofKind.NXDOMAIN
    assert all(rrset.rdtype == c.NSEC3 for rrset in proof.used)


def test_what_is_wrong_is_told_of_the_kind_that_is_there() -> None:
    proof = denial.prove_nxdomain(from_text("k.example."), (A_HALF,), EXAMPLE, max_iterations=50, budget=budget())
    assert "wildcard at the closest encloser" in proof.reason
    proof = denial.prove_nxdomain(from_text("k.example."), (), EXAMPLE, max_iterations=50, budget=budget())
    assert proof.reason == "no usable records"


def test_no_hash_is_spent_where_nsec_proves() -> None:
    spent = budget()
    zone = Zone({})
    records = (*zone.nsecs().values(), *zone.nsec3s(False, b"", 0))
    assert denial.prove_nxdomain(from_text("k.example."), records, EXAMPLE, max_iterations=50, budget=spent).proven
    assert spent.spent[Cost.HASHES] == 0


def test_a_name_outside_the_zone_has_no_wildcard_in_it() -> None:
    refused = no_closer(from_text("k.test."), 1, (A_HALF,))
    assert (refused.kind, refused.reason) == (ProofKind.NONE, "the name lies outside the zone of the proof")


# Octets of any kind


hashed_owner = st.binary(min_size=20, max_size=20).map(lambda digest: b"\x20" + base64.b32hexencode(digest).lower() + EXAMPLE)
any_record = st.builds(
    RRset,
    owner=below_apex | hashed_owner | st.just(EXAMPLE),
    rdtype=st.sampled_from((c.NSEC, c.NSEC3)),
    ttl=st.just(60),
    rdatas=st.tuples(
        st.binary(max_size=60)
        | st.binary(max_size=40).map(lambda tail: EXAMPLE + tail)
        | st.binary(max_size=40).map(lambda tail: b"\1\0\0\0\0\x14" + tail)
    ),
    signatures=st.tuples(st.binary(max_size=30)) | st.just((rrsig(c.NSEC, 2),)) | st.just(()),
)


@played
@given(st.lists(any_record, max_size=4).map(tuple), questions)
def test_malformed_records_raise_nothing(records: tuple[RRset, ...], asked: list[tuple[Name, int]]) -> None:
    for qname, qtype in asked:
        for proof in [*every_proof(qname, qtype, records), no_ds(qname, records), no_closer(qname, 1, records)]:
            assert set(proof.used) <= set(records)
