"""Denial over whole zones: whatever is absent can be proven so, and whatever is there never, with any of the zone's records."""

from __future__ import annotations

import base64

from hypothesis import given, settings
from hypothesis import strategies as st
from zone_model import EXAMPLE, Zone, below_apex, nsec, nsec3_record, rrsig, zones

from dohproxy.dnssec import denial, nsec3
from dohproxy.dnssec.budget import DEFAULT_LIMITS, Budget, Cost
from dohproxy.dnssec.proof import Proof, ProofKind
from dohproxy.model import Name, RRset
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text, is_below, is_wildcard, label_count, last_labels, order, parent, wildcard_of

TYPES = (c.A, c.TXT, c.CNAME, c.DNAME, c.NS, c.DS, c.ANY)


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
