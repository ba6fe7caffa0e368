"""NSEC3 proofs: each rule, with the reason that is given."""

from __future__ import annotations

import base64

import dns.dnssec
import dns.name
import pytest

from dohproxy.dnssec import bitmap, denial, nsec3
from dohproxy.dnssec.budget import DEFAULT_LIMITS, Budget, Cost
from dohproxy.dnssec.proof import Proof, ProofKind
from dohproxy.errors import BudgetExhausted
from dohproxy.model import Name, RRset
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text, label_count

EXAMPLE = from_text("example.")
SALT = bytes.fromhex("aabbccdd")
OPT_OUT = True


def rrsig(labels: int) -> bytes:
    return c.NSEC3.to_bytes(2, "big") + bytes((13, labels)) + bytes(14) + EXAMPLE + bytes(64)


def step(digest: bytes, by: int) -> bytes:
    return ((int.from_bytes(digest, "big") + by) % (1 << 160)).to_bytes(20, "big")


def record(
    low: bytes,
    high: bytes,
    types: str = "",
    *,
    opt_out: bool = False,
    salt: bytes = SALT,
    iterations: int = 1,
    algorithm: int = 1,
    flags: int | None = None,
    zone: Name = EXAMPLE,
    labels: int | None = None,
) -> RRset:
    rdata = bytes((algorithm, opt_out if flags is None else flags)) + iterations.to_bytes(2, "big")
    rdata += bytes((len(salt),)) + salt + bytes((len(high),)) + high
    rdata += bitmap.build(getattr(c, mnemonic, 128) for mnemonic in types.split())
    owner = bytes((32,)) + base64.b32hexencode(low).lower() + zone
    return RRset(owner, c.NSEC3, 3600, (rdata,), (rrsig(label_count(owner) if labels is None else labels),))


def match(name: str, types: str = "A RRSIG", *, salt: bytes = SALT, iterations: int = 1, **rest: object) -> RRset:
    """A record that matches the name and covers next to nothing."""
    digest = nsec3.hash_name(from_text(name), salt, iterations)
    return record(digest, step(digest, 1), types, salt=salt, iterations=iterations, **rest)  # type: ignore[arg-type]


def cover(name: str, opt_out: bool = False, *, salt: bytes = SALT, iterations: int = 1, **rest: object) -> RRset:
    """A record that covers the name and next to nothing else."""
    digest = nsec3.hash_name(from_text(name), salt, iterations)
    return record(
        step(digest, -1),
        step(digest, 1),
        "A RRSIG",
        opt_out=opt_out,
        salt=salt,
        iterations=iterations,
        **rest,  # type: ignore[arg-type]
    )


APEX = match("example.", "NS SOA RRSIG DNSKEY NSEC3PARAM")
NO_WILDCARD = cover("*.example.")


def nxdomain(qname: str, *proofs: RRset, budget: Budget | None = None) -> Proof:
    return denial.prove_nxdomain(from_text(qname), proofs, EXAMPLE, max_iterations=50, budget=budget or Budget())


def nodata(qname: str, qtype: int, *proofs: RRset, zone: str = "example.") -> Proof:
    return denial.prove_nodata(from_text(qname), qtype, proofs, from_text(zone), max_iterations=50, budget=Budget())


def either(qname: str, qtype: int, *proofs: RRset) -> Proof:
    return denial.prove_nonexistence(from_text(qname), qtype, proofs, EXAMPLE, max_iterations=50, budget=Budget())


def no_closer(qname: str, labels: int, *proofs: RRset) -> Proof:
    return denial.prove_no_closer_match(from_text(qname), labels, proofs, EXAMPLE, max_iterations=50, budget=Budget())


def no_ds(name: str, *proofs: RRset) -> Proof:
    return denial.prove_no_ds(from_text(name), proofs, EXAMPLE, max_iterations=50, budget=Budget())


def refused(proof: Proof, reason: str) -> None:
    assert proof.kind is ProofKind.NONE
    assert not proof.secure
    assert reason in proof.reason


# Hashes (RFC 5155 5)


@pytest.mark.parametrize("iterations", [0, 1, 12, 150])
@pytest.mark.parametrize("salt", ["", "aabbccdd"])
def test_hashes_agree_with_another_implementation(iterations: int, salt: str) -> None:
    name = "*.w.example."
    theirs = dns.dnssec.nsec3_hash(dns.name.from_text(name), salt, iterations, 1)
    ours = nsec3.hash_name(from_text(name), bytes.fromhex(salt), iterations)
    assert base64.b32hexencode(ours).decode() == theirs


def test_a_hash_from_the_rfc() -> None:
    """RFC 5155 appendix A."""
    assert base64.b32hexencode(nsec3.hash_name(EXAMPLE, SALT, 12)) == b"0P9MHAVEQVM6T7VBL5LOP2U3T2RP3TOM"


# NXDOMAIN (RFC 5155 8.4)


def test_encloser_matched_next_closer_and_wildcard_covered() -> None:
    proof = nxdomain("k.example.", APEX, cover("k.example."), NO_WILDCARD)
    assert (proof.kind, proof.secure, proof.closest_encloser, len(proof.used)) == (ProofKind.NXDOMAIN, True, EXAMPLE, 3)


def test_the_encloser_may_be_deep_and_the_ancestors_unseen() -> None:
    proof = nxdomain("z.y.b.a.example.", match("b.a.example."), cover("y.b.a.example."), cover("*.b.a.example."))
    assert proof.closest_encloser == from_text("b.a.example.")


def test_opt_out_over_the_next_closer_name_is_not_secure() -> None:
    """RFC 5155 9.2."""
    proof = nxdomain("k.example.", APEX, cover("k.example.", OPT_OUT), NO_WILDCARD)
    assert (proof.kind, proof.secure) == (ProofKind.NXDOMAIN, False)
    assert "opt-out" in proof.reason


def test_opt_out_over_the_wildcard_is_secure() -> None:
    """RFC 5155 9.2 speaks of the next closer name: no wildcard is an unsigned delegation."""
    assert nxdomain("k.example.", APEX, cover("k.example."), cover("*.example.", OPT_OUT)).secure


def test_of_two_covers_the_one_without_opt_out_is_taken() -> None:
    assert nxdomain("k.example.", APEX, cover("k.example.", OPT_OUT), cover("k.example."), NO_WILDCARD).secure


def test_no_closest_encloser() -> None:
    refused(nxdomain("k.example.", cover("k.example."), NO_WILDCARD), "no NSEC3 record matches the closest encloser example.")


def test_no_next_closer() -> None:
    refused(nxdomain("k.example.", APEX, NO_WILDCARD), "next closer")


def test_the_encloser_must_be_right_above_the_next_closer() -> None:
    refused(nxdomain("k.b.example.", APEX, cover("k.b.example."), NO_WILDCARD), "matches the closest encloser b.example.")


def test_the_wildcard_is_not_denied() -> None:
    refused(nxdomain("k.example.", APEX, cover("k.example.")), "wildcard at the closest encloser example. is not denied")
    refused(nxdomain("k.example.", APEX, cover("k.example."), match("*.example.")), "wildcard")
    refused(nxdomain("k.example.", APEX, cover("k.example."), match("*.example."), NO_WILDCARD), "wildcard")


def test_a_name_that_is_there() -> None:
    refused(nxdomain("k.example.", APEX, match("k.example."), NO_WILDCARD), "matches the name: it exists")


@pytest.mark.parametrize("types", ["NS", "NS DS RRSIG", "DNAME RRSIG"])
def test_the_encloser_may_not_be_a_delegation_or_dname(types: str) -> None:
    """RFC 5155 8.3, RFC 6840 4.1."""
    proofs = match("sub.example.", types), cover("k.sub.example."), cover("*.sub.example.")
    for proof in (
        nxdomain("k.sub.example.", *proofs),
        nodata("k.sub.example.", c.A, *proofs),
        no_ds("k.sub.example.", *proofs),
    ):
        refused(proof, "delegation or DNAME above")


def test_no_name_above_the_encloser_may_be_a_delegation_either() -> None:
    proofs = match("sub.example.", "NS"), match("a.sub.example."), cover("k.a.sub.example."), cover("*.a.sub.example.")
    refused(nxdomain("k.a.sub.example.", *proofs), "delegation or DNAME above")


def test_the_last_record_wraps_around() -> None:
    """RFC 5155 1.3."""
    digest = nsec3.hash_name(from_text("k.example."), SALT, 1)
    above, below = record(step(digest, -1), bytes(20), "A"), record(b"\xff" * 20, step(digest, 1), "A")
    assert nxdomain("k.example.", APEX, above, NO_WILDCARD).kind is ProofKind.NXDOMAIN
    assert nxdomain("k.example.", APEX, below, NO_WILDCARD).kind is ProofKind.NXDOMAIN


def test_a_single_record_covers_all_but_itself() -> None:
    digest = nsec3.hash_name(EXAMPLE, SALT, 1)
    alone = record(digest, digest, "NS SOA RRSIG DNSKEY NSEC3PARAM")
    assert nxdomain("k.example.", alone).used == (alone,)
    refused(nxdomain("example.", alone), "it exists")


# What a record must be


@pytest.mark.parametrize("change", [{"algorithm": 2}, {"flags": 2}, {"flags": 0x80}])
def test_unknown_algorithms_and_flags_are_ignored(change: dict[str, int]) -> None:
    """RFC 5155 8.1, 8.2."""
    refused(nxdomain("k.example.", APEX, cover("k.example.", **change), NO_WILDCARD), "next closer")


def test_the_owner_stands_right_below_the_apex() -> None:
    refused(nodata("h.example.", c.TXT, match("h.example.", zone=from_text("sub.example."))), "no usable records")
    refused(nodata("h.test.", c.TXT, match("h.test."), zone="test."), "no usable records")


def test_the_owner_does_not_come_from_a_wildcard() -> None:
    refused(nodata("h.example.", c.TXT, match("h.example.", labels=1)), "no usable records")


@pytest.mark.parametrize("label", [b"abc", b"z" * 32, b"\xff" * 32])
def test_an_owner_that_is_no_hash(label: bytes) -> None:
    whole = match("h.example.")
    owner = bytes((len(label),)) + label + EXAMPLE
    refused(nodata("h.example.", c.TXT, RRset(owner, c.NSEC3, 3600, whole.rdatas, whole.signatures)), "no usable records")


@pytest.mark.parametrize("cut", [0, 5, 8, 9, 20])
def test_a_record_cut_short(cut: int) -> None:
    whole = match("h.example.")
    refused(
        nodata("h.example.", c.TXT, RRset(whole.owner, c.NSEC3, 3600, (whole.rdatas[0][:cut],), whole.signatures)), "no usable"
    )


def test_a_next_hash_of_another_length() -> None:
    digest = nsec3.hash_name(from_text("h.example."), SALT, 1)
    refused(nodata("h.example.", c.TXT, record(digest, b"\xff" * 32)), "no usable records")


def test_an_unsigned_record_proves_nothing() -> None:
    whole = match("h.example.")
    refused(nodata("h.example.", c.TXT, RRset(whole.owner, c.NSEC3, 3600, whole.rdatas)), "no usable records")


# Parameters (RFC 5155 8.2, RFC 9276 3.2)


def test_parameters_are_not_mixed_within_a_proof() -> None:
    other = {"salt": b"", "iterations": 0}
    mixed = APEX, cover("k.example.", **other), NO_WILDCARD
    assert nxdomain("k.example.", *mixed).kind is ProofKind.NONE


def test_each_set_of_parameters_is_tried() -> None:
    other = {"salt": b"", "iterations": 0}
    whole = [match("example.", "NS SOA", **other), cover("k.example.", **other), cover("*.example.", **other)]
    assert nxdomain("k.example.", APEX, cover("k.example."), *whole).kind is ProofKind.NXDOMAIN
    assert nxdomain("k.example.", *whole, APEX).kind is ProofKind.NXDOMAIN


def test_few_sets_are_tried() -> None:
    junk = [match("junk.example.", salt=bytes((n,))) for n in range(nsec3.MAX_SETS)]
    assert nodata("h.example.", c.TXT, *junk, match("h.example.")).kind is ProofKind.NONE
    assert nodata("h.example.", c.TXT, *junk[1:], match("h.example.")).kind is ProofKind.NODATA


def test_too_many_iterations_are_unsupported() -> None:
    many = {"iterations": 51}
    proof = nxdomain(
        "k.example.", match("example.", "NS SOA", **many), cover("k.example.", **many), cover("*.example.", **many)
    )
    assert (proof.kind, proof.secure) == (ProofKind.UNSUPPORTED, False)
    assert nodata("h.example.", c.TXT, match("h.example.", iterations=50)).kind is ProofKind.NODATA
    assert no_ds("h.example.", match("h.example.", "NS", **many)).kind is ProofKind.UNSUPPORTED
    assert no_closer("k.example.", 1, cover("k.example.", **many)).kind is ProofKind.UNSUPPORTED


def test_too_many_iterations_cost_no_hash() -> None:
    budget = Budget()
    nxdomain("k.example.", match("example.", iterations=51), budget=budget)
    assert budget.spent[Cost.HASHES] == 0


def test_a_set_within_the_limit_is_enough() -> None:
    assert nodata("h.example.", c.TXT, match("x.example.", iterations=500), match("h.example.")).kind is ProofKind.NODATA


# Cost (CVE-2023-50868)


def test_each_name_is_hashed_once() -> None:
    budget = Budget()
    for _ in range(3):
        assert nxdomain("k.example.", APEX, cover("k.example."), NO_WILDCARD, budget=budget).kind is ProofKind.NXDOMAIN
    assert budget.spent[Cost.HASHES] == 3


def test_a_long_name_costs_no_more_than_its_encloser_is_deep() -> None:
    budget = Budget()
    qname = "x." * 100 + "k.example."
    assert nxdomain(qname, APEX, cover("k.example."), NO_WILDCARD, budget=budget).kind is ProofKind.NXDOMAIN
    assert budget.spent[Cost.HASHES] == 4


def test_an_exhausted_budget_ends_it() -> None:
    budget = Budget({**DEFAULT_LIMITS, Cost.HASHES: 3})
    with pytest.raises(BudgetExhausted):
        nxdomain("x." * 100 + "example.", match("junk.example."), budget=budget)


# NODATA (RFC 5155 8.5 to 8.7)


def test_a_record_at_the_name_without_the_type() -> None:
    proof = nodata("h.example.", c.TXT, match("h.example.", "A RRSIG"))
    assert (proof.kind, proof.secure, len(proof.used)) == (ProofKind.NODATA, True, 1)


def test_opt_out_matters_not_where_the_record_matches() -> None:
    assert nodata("h.example.", c.TXT, match("h.example.", "A RRSIG", opt_out=True)).secure


def test_the_type_or_a_cname_is_there() -> None:
    """RFC 6840 4.3."""
    refused(nodata("h.example.", c.A, match("h.example.", "A RRSIG")), "lists the type")
    refused(nodata("h.example.", c.A, match("h.example.", "CNAME RRSIG")), "CNAME")
    refused(nodata("h.example.", c.CNAME, match("h.example.", "CNAME RRSIG")), "lists the type")


def test_the_parents_side_denies_ds_alone() -> None:
    """RFC 6840 4.1."""
    refused(nodata("sub.example.", c.A, match("sub.example.", "NS")), "parent's side")
    assert nodata("sub.example.", c.DS, match("sub.example.", "NS")).kind is ProofKind.NODATA


def test_the_childs_side_does_not_deny_ds() -> None:
    refused(nodata("sub.example.", c.DS, match("sub.example.", "NS SOA RRSIG")), "child's apex")
    refused(nodata("example.", c.DS, APEX), "zone above its owner")


def test_an_empty_non_terminal_has_no_types() -> None:
    for qtype in (c.A, c.DS, c.ANY):
        assert nodata("e.example.", qtype, match("e.example.", "")).kind is ProofKind.NODATA


def test_any_needs_a_name_without_data() -> None:
    refused(nodata("h.example.", c.ANY, match("h.example.", "A RRSIG")), "data of some type")


def test_an_opt_out_span_denies_ds_and_is_not_secure() -> None:
    """RFC 5155 8.6, 9.2."""
    proof = nodata("sub.example.", c.DS, APEX, cover("sub.example.", OPT_OUT))
    assert (proof.kind, proof.secure, proof.closest_encloser) == (ProofKind.NODATA, False, EXAMPLE)


def test_an_opt_out_span_may_hold_an_empty_non_terminal() -> None:
    """RFC 5155 erratum 3441."""
    proof = nodata("e.example.", c.A, APEX, cover("e.example.", OPT_OUT))
    assert (proof.kind, proof.secure) == (ProofKind.NODATA, False)


def test_without_opt_out_the_name_does_not_exist() -> None:
    refused(nodata("sub.example.", c.DS, APEX, cover("sub.example.")), "without opt-out")
    refused(nodata("e.example.", c.A, APEX, cover("e.example."), NO_WILDCARD), "without opt-out")


def test_opt_out_needs_the_closest_encloser() -> None:
    refused(nodata("sub.example.", c.DS, cover("sub.example.", OPT_OUT)), "matches the closest encloser example.")


def test_the_wildcard_lacks_the_type() -> None:
    """RFC 5155 8.7."""
    proof = nodata("k.example.", c.TXT, APEX, cover("k.example."), match("*.example."))
    assert (proof.kind, proof.secure, len(proof.used)) == (ProofKind.WILDCARD_NODATA, True, 3)


def test_the_wildcard_lacks_the_type_under_opt_out() -> None:
    assert not nodata("k.example.", c.TXT, APEX, cover("k.example.", OPT_OUT), match("*.example.")).secure


@pytest.mark.parametrize(("types", "reason"), [("TXT", "lists the type"), ("CNAME", "CNAME"), ("NS", "parent's side")])
def test_the_wildcard_cannot_deny(types: str, reason: str) -> None:
    refused(nodata("k.example.", c.TXT, APEX, cover("k.example."), match("*.example.", types)), reason)


def test_wildcard_nodata_needs_the_next_closer_covered() -> None:
    refused(nodata("k.example.", c.TXT, APEX, match("*.example.")), "next closer")


def test_nxname() -> None:
    """RFC 9824 3.1, in a zone with NSEC3."""
    record = match("k.example.", "NXNAME")
    assert nxdomain("k.example.", record).kind is ProofKind.NXDOMAIN
    assert nodata("k.example.", c.A, record).kind is ProofKind.NODATA
    refused(nxdomain("k.example.", match("k.example.", "A NXNAME")), "it exists")


# Whichever the records show


def test_either_tells_which() -> None:
    assert either("k.example.", c.A, APEX, cover("k.example."), NO_WILDCARD).kind is ProofKind.NXDOMAIN
    assert either("h.example.", c.TXT, match("h.example.")).kind is ProofKind.NODATA
    assert either("k.example.", c.TXT, APEX, cover("k.example."), match("*.example.")).kind is ProofKind.WILDCARD_NODATA
    refused(either("h.example.", c.A, match("h.example.")), "lists the type")
    refused(either("k.example.", c.A, APEX, cover("k.example.")), "wildcard at the closest encloser")


# Positive wildcards (RFC 5155 8.8)


def test_the_next_closer_is_covered() -> None:
    proof = no_closer("x.k.example.", 1, cover("k.example."))
    assert (proof.kind, proof.secure, proof.closest_encloser) == (ProofKind.NXDOMAIN, True, EXAMPLE)
    assert not no_closer("x.k.example.", 1, cover("k.example.", OPT_OUT)).secure


def test_the_next_closer_is_not_covered() -> None:
    refused(no_closer("x.k.example.", 1, cover("x.k.example.")), "covers the next closer")
    refused(no_closer("x.k.example.", 1, match("k.example.")), "covers the next closer")


@pytest.mark.parametrize("labels", [0, 3, 9])
def test_a_wildcard_is_of_the_zone_and_above_the_name(labels: int) -> None:
    refused(no_closer("x.k.example.", labels, cover("k.example.")), "not expanded from a wildcard")


# DS (RFC 5155 8.6, 8.9)


def test_an_unsigned_delegation() -> None:
    proof = no_ds("sub.example.", match("sub.example.", "NS"))
    assert (proof.kind, proof.secure) == (ProofKind.NO_DS, True)


def test_a_delegation_with_ds() -> None:
    refused(no_ds("sub.example.", match("sub.example.", "NS DS RRSIG")), "lists a DS")


def test_the_childs_apex_does_not_deny_its_ds() -> None:
    refused(no_ds("sub.example.", match("sub.example.", "NS SOA RRSIG")), "child's apex")


@pytest.mark.parametrize("types", ["A RRSIG", "CNAME RRSIG", ""])
def test_no_delegation(types: str) -> None:
    assert no_ds("k.example.", match("k.example.", types)).kind is ProofKind.NOT_A_CUT


def test_a_name_that_does_not_exist_is_no_delegation() -> None:
    assert no_ds("k.example.", APEX, cover("k.example.")).kind is ProofKind.NOT_A_CUT


def test_an_opt_out_span() -> None:
    proof = no_ds("k.sub.example.", APEX, cover("sub.example.", OPT_OUT))
    assert (proof.kind, proof.secure, proof.closest_encloser) == (ProofKind.OPT_OUT, False, EXAMPLE)


def test_a_ds_that_no_record_speaks_of() -> None:
    refused(no_ds("q.example.", APEX), "next closer")


def test_a_record_that_covers_an_ancestor_by_mistake_does_not_hide_the_proof() -> None:
    """Seen in test data, and with signers that make up wide spans: only encloser and next closer count (RFC 5155 8.3)."""
    proof = nxdomain("k.a.example.", cover("example."), match("a.example."), cover("k.a.example."), cover("*.a.example."))
    assert (proof.kind, proof.closest_encloser) == (ProofKind.NXDOMAIN, from_text("a.example."))
