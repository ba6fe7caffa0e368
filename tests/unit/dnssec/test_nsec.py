"""NSEC proofs: each rule, with the reason that is given."""

from __future__ import annotations

import dns.rdata
import pytest

from dohproxy.dnssec import denial
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.proof import Proof, ProofKind
from dohproxy.model import RRset
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text, is_wildcard, label_count

EXAMPLE = from_text("example.")


def rrsig(rdtype: int, labels: int) -> bytes:
    return rdtype.to_bytes(2, "big") + bytes((13, labels)) + bytes(14) + EXAMPLE + bytes(64)


def nsec(text: str, *, labels: int | None = None) -> RRset:
    """`owner next TYPE …`; `labels` as the RRSIG counts them."""
    owner, rest = text.split(maxsplit=1)
    rdata = dns.rdata.from_text("IN", "NSEC", rest).to_wire()
    name = from_text(owner)
    if labels is None:
        labels = label_count(name) - is_wildcard(name)
    return RRset(name, c.NSEC, 3600, (rdata,), (rrsig(c.NSEC, labels),))


def nxdomain(qname: str, *records: str | RRset, zone: str = "example.") -> Proof:
    return denial.prove_nxdomain(from_text(qname), _rrsets(records), from_text(zone), max_iterations=50, budget=Budget())


def nodata(qname: str, qtype: int, *records: str | RRset, zone: str = "example.") -> Proof:
    return denial.prove_nodata(from_text(qname), qtype, _rrsets(records), from_text(zone), max_iterations=50, budget=Budget())


def either(qname: str, qtype: int, *records: str | RRset) -> Proof:
    return denial.prove_nonexistence(from_text(qname), qtype, _rrsets(records), EXAMPLE, max_iterations=50, budget=Budget())


def no_closer(qname: str, labels: int, *records: str | RRset) -> Proof:
    return denial.prove_no_closer_match(from_text(qname), labels, _rrsets(records), EXAMPLE, max_iterations=50, budget=Budget())


def no_ds(name: str, *records: str | RRset, zone: str = "example.") -> Proof:
    return denial.prove_no_ds(from_text(name), _rrsets(records), from_text(zone), max_iterations=50, budget=Budget())


def _rrsets(records: tuple[str | RRset, ...]) -> tuple[RRset, ...]:
    return tuple(nsec(record) if isinstance(record, str) else record for record in records)


APEX = "example. a.example. NS SOA RRSIG NSEC DNSKEY"
"""Covers the wildcard below the apex."""


def refused(proof: Proof, reason: str) -> None:
    assert proof.kind is ProofKind.NONE
    assert not proof.secure
    assert reason in proof.reason


# NXDOMAIN (RFC 4035 5.4)


def test_a_name_and_its_wildcard_covered_by_two_records() -> None:
    proof = nxdomain("k.example.", APEX, "h.example. m.example. A RRSIG NSEC")
    assert (proof.kind, proof.secure, proof.closest_encloser) == (ProofKind.NXDOMAIN, True, EXAMPLE)
    assert {rrset.owner for rrset in proof.used} == {EXAMPLE, from_text("h.example.")}


def test_one_record_may_cover_both() -> None:
    proof = nxdomain("+.example.", "example. a.example. NS SOA RRSIG NSEC")
    assert proof.kind is ProofKind.NXDOMAIN
    assert len(proof.used) == 1


def test_the_last_record_wraps_around_to_the_apex() -> None:
    assert nxdomain("zz.example.", APEX, "w.example. example. A RRSIG NSEC").kind is ProofKind.NXDOMAIN


def test_the_last_record_does_not_cover_what_comes_before_it() -> None:
    refused(nxdomain("b.example.", APEX, "w.example. example. A RRSIG NSEC"), "no NSEC record covers")


def test_a_zone_of_the_apex_alone_denies_all_else() -> None:
    assert nxdomain("a.b.example.", "example. example. NS SOA RRSIG NSEC").kind is ProofKind.NXDOMAIN
    refused(nxdomain("example.", "example. example. NS SOA RRSIG NSEC"), "matches the name")


def test_the_root_zone_denies() -> None:
    proof = nxdomain("k.", ". aaa. NS SOA RRSIG NSEC DNSKEY", "h. m. NS DS RRSIG NSEC", zone=".")
    assert (proof.kind, proof.closest_encloser) == (ProofKind.NXDOMAIN, b"\0")


def test_the_wildcard_at_the_closest_encloser_must_be_denied() -> None:
    refused(
        nxdomain("k.example.", "h.example. m.example. A RRSIG NSEC"), "wildcard at the closest encloser example. is not denied"
    )


def test_a_wildcard_that_exists_is_not_denied() -> None:
    refused(
        nxdomain("k.example.", "*.example. a.example. TXT RRSIG NSEC", "h.example. m.example. A RRSIG NSEC"),
        "wildcard at the closest encloser example. is not denied",
    )


def test_a_wildcard_that_is_an_empty_non_terminal_is_not_denied() -> None:
    refused(nxdomain("k.example.", "example. x.*.example. NS SOA RRSIG NSEC", "h.example. m.example. A RRSIG NSEC"), "wildcard")


def test_the_closest_encloser_comes_from_the_owner() -> None:
    proof = nxdomain("k.b.example.", "a.b.example. c.example. A RRSIG NSEC", "b.example. a.b.example. A RRSIG NSEC")
    assert proof.closest_encloser == from_text("b.example.")


def test_the_closest_encloser_comes_from_the_next_name() -> None:
    """Where the encloser is an empty non-terminal, only the next name shows it."""
    proof = nxdomain("+.b.example.", "a.example. k.b.example. A RRSIG NSEC")
    assert (proof.kind, proof.closest_encloser) == (ProofKind.NXDOMAIN, from_text("b.example."))


def test_a_wildcard_above_the_closest_encloser_does_not_matter() -> None:
    records = (
        "*.example. b.example. A RRSIG NSEC",
        "b.example. a.b.example. A RRSIG NSEC",
        "a.b.example. c.example. A RRSIG NSEC",
    )
    assert nxdomain("k.b.example.", *records).kind is ProofKind.NXDOMAIN


def test_a_name_that_is_there_is_not_denied() -> None:
    refused(nxdomain("h.example.", APEX, "h.example. m.example. A RRSIG NSEC"), "matches the name: it exists")


def test_an_empty_non_terminal_is_not_denied() -> None:
    refused(nxdomain("k.example.", APEX, "h.example. x.k.example. A RRSIG NSEC"), "empty non-terminal: it exists")


def test_a_wildcard_asked_for_by_name_is_denied_by_its_cover() -> None:
    assert nxdomain("*.example.", APEX).kind is ProofKind.NXDOMAIN


def test_names_compare_without_case_and_octets_without_sign() -> None:
    record = nsec("h.example. M.EXAMPLE. A RRSIG NSEC")
    assert nxdomain("K.example.", APEX, record).kind is ProofKind.NXDOMAIN
    assert nxdomain("\\200.example.", APEX, "z.example. \\201.example. A RRSIG NSEC").kind is ProofKind.NXDOMAIN


# What a record may speak of


def test_a_next_name_outside_the_zone_proves_nothing() -> None:
    refused(nxdomain("k.example.", APEX, "h.example. m.test. A RRSIG NSEC"), "no NSEC record covers")


def test_a_next_name_before_the_owner_proves_nothing() -> None:
    refused(nxdomain("z.example.", APEX, "m.example. h.example. A RRSIG NSEC"), "no NSEC record covers")


def test_an_owner_outside_the_zone_proves_nothing() -> None:
    refused(nodata("www.sub.example.", c.A, "www.example. z.example. TXT RRSIG NSEC", zone="sub.example."), "no usable records")


def test_a_question_outside_the_zone_is_not_answered() -> None:
    refused(nxdomain("k.test.", APEX), "outside the zone")


@pytest.mark.parametrize("types", ["NS RRSIG NSEC", "NS DS RRSIG NSEC", "DNAME RRSIG NSEC", "A DNAME RRSIG NSEC"])
def test_a_delegation_or_dname_above_the_name_proves_nothing(types: str) -> None:
    """RFC 6840 4.1, RFC 6672 5.3.4.1."""
    record = f"sub.example. z.example. {types}"
    refused(nxdomain("www.sub.example.", APEX, record), "delegation or DNAME above")
    refused(nodata("www.sub.example.", c.A, APEX, record), "no NSEC record matches or covers")
    refused(no_closer("www.sub.example.", 1, record), "delegation or DNAME above")
    refused(no_ds("www.sub.example.", record), "no NSEC record matches or covers")


@pytest.mark.parametrize("types", ["NS RRSIG NSEC", "DNAME RRSIG NSEC"])
def test_a_delegation_or_dname_beside_the_name_proves_as_any_other(types: str) -> None:
    """RFC 6672 5.3.4.2."""
    assert nxdomain("t.example.", APEX, f"sub.example. z.example. {types}").kind is ProofKind.NXDOMAIN


def test_an_apex_with_a_dname_denies_nothing_below() -> None:
    refused(nxdomain("k.example.", "example. example. NS SOA DNAME RRSIG NSEC DNSKEY"), "delegation or DNAME above")


@pytest.mark.parametrize("labels", [3, 255])
def test_more_labels_in_the_signature_than_in_the_owner_prove_nothing(labels: int) -> None:
    refused(nxdomain("k.example.", APEX, nsec("h.example. m.example. A RRSIG NSEC", labels=labels)), "no NSEC record covers")


def test_an_unsigned_record_proves_nothing() -> None:
    rrset = nsec(APEX)
    refused(nxdomain("+.example.", RRset(rrset.owner, c.NSEC, 3600, rrset.rdatas)), "no usable records")


@pytest.mark.parametrize(
    "rdata", [b"", b"\1a", b"\x40" + bytes(70), b"\1z\7example\0\0\0", b"\1z\7example\0\0\1", b"\1z\7example\0\1\1\x40\0\1\x40"]
)
def test_a_malformed_record_proves_nothing(rdata: bytes) -> None:
    rrset = RRset(EXAMPLE, c.NSEC, 3600, (rdata,), (rrsig(c.NSEC, 1),))
    refused(nxdomain("+.example.", rrset), "no usable records")


def test_other_types_are_passed_over() -> None:
    refused(nxdomain("k.example.", RRset(EXAMPLE, c.SOA, 3600, (b"\0",), (rrsig(c.SOA, 1),))), "no usable records")


def test_a_record_expanded_from_a_wildcard_speaks_of_the_wildcard() -> None:
    """RFC 4035 5.3.2: what was signed is *.example. NSEC s.example., so k.example. is covered and h.example. not its owner."""
    expanded = nsec("h.example. s.example. TXT RRSIG NSEC", labels=1)
    refused(nodata("h.example.", c.TXT, expanded), "lists the type")
    proof = nodata("h.example.", c.A, expanded)
    assert (proof.kind, proof.closest_encloser) == (ProofKind.WILDCARD_NODATA, EXAMPLE)
    refused(nxdomain("t.example.", expanded), "no NSEC record covers")


def test_of_two_records_at_one_owner_each_is_a_claim_of_the_zone() -> None:
    one, other = nsec("h.example. m.example. A RRSIG NSEC"), nsec("h.example. k.example. A RRSIG NSEC")
    both = RRset(one.owner, c.NSEC, 3600, one.rdatas + other.rdatas, one.signatures)
    assert nxdomain("l.example.", APEX, both).kind is ProofKind.NXDOMAIN


# NODATA (RFC 4035 5.4)


def test_a_record_at_the_name_without_the_type() -> None:
    proof = nodata("h.example.", c.AAAA, "h.example. m.example. A RRSIG NSEC")
    assert (proof.kind, proof.secure, len(proof.used)) == (ProofKind.NODATA, True, 1)


def test_the_type_is_there() -> None:
    refused(nodata("h.example.", c.A, "h.example. m.example. A RRSIG NSEC"), "lists the type")


def test_a_cname_would_have_been_the_answer() -> None:
    """RFC 6840 4.3."""
    refused(nodata("h.example.", c.A, "h.example. m.example. CNAME RRSIG NSEC"), "lists a CNAME")
    refused(nodata("h.example.", c.CNAME, "h.example. m.example. CNAME RRSIG NSEC"), "lists the type")


def test_no_cname_where_there_is_data() -> None:
    assert nodata("h.example.", c.CNAME, "h.example. m.example. A RRSIG NSEC").kind is ProofKind.NODATA


def test_a_dname_is_no_data_of_other_types() -> None:
    assert nodata("h.example.", c.A, "h.example. m.example. DNAME RRSIG NSEC").kind is ProofKind.NODATA


def test_types_above_255() -> None:
    record = "h.example. m.example. A CAA TYPE65535 RRSIG NSEC"
    refused(nodata("h.example.", c.CAA, record), "lists the type")
    refused(nodata("h.example.", 65535, record), "lists the type")
    assert nodata("h.example.", 258, record).kind is ProofKind.NODATA
    assert nodata("h.example.", 512, record).kind is ProofKind.NODATA


def test_the_parents_side_of_a_cut_denies_ds_alone() -> None:
    """RFC 6840 4.1."""
    record = "sub.example. z.example. NS RRSIG NSEC"
    refused(nodata("sub.example.", c.A, record), "parent's side")
    refused(nodata("sub.example.", c.ANY, record), "parent's side")
    assert nodata("sub.example.", c.DS, record).kind is ProofKind.NODATA


def test_the_childs_side_of_a_cut_does_not_deny_ds() -> None:
    """RFC 6840 4.1."""
    refused(nodata("sub.example.", c.DS, "sub.example. z.example. NS SOA RRSIG NSEC DNSKEY"), "child's apex")
    refused(nodata("example.", c.DS, APEX), "zone above its owner")


def test_the_root_has_no_parent_to_deny_its_ds() -> None:
    assert nodata(".", c.DS, ". aaa. NS SOA RRSIG NSEC DNSKEY", zone=".").kind is ProofKind.NODATA


def test_an_empty_non_terminal_has_no_data() -> None:
    record = "h.example. x.k.example. A RRSIG NSEC"
    for qtype in (c.A, c.DS, c.ANY):
        assert nodata("k.example.", qtype, record).reason == "NSEC shows an empty non-terminal"


def test_any_needs_a_name_without_data() -> None:
    refused(nodata("h.example.", c.ANY, "h.example. m.example. A RRSIG NSEC"), "data of some type")
    assert nodata("h.example.", c.ANY, "h.example. \\000.h.example. RRSIG NSEC").kind is ProofKind.NODATA


def test_a_name_that_no_record_speaks_of() -> None:
    refused(nodata("q.example.", c.A, "h.example. m.example. A RRSIG NSEC"), "matches or covers")


def test_the_wildcard_lacks_the_type() -> None:
    proof = nodata("k.example.", c.A, "*.example. a.example. TXT RRSIG NSEC", "h.example. m.example. A RRSIG NSEC")
    assert (proof.kind, proof.closest_encloser, len(proof.used)) == (ProofKind.WILDCARD_NODATA, EXAMPLE, 2)


def test_the_wildcard_has_the_type() -> None:
    cover = "h.example. m.example. A RRSIG NSEC"
    refused(nodata("k.example.", c.TXT, "*.example. a.example. TXT RRSIG NSEC", cover), "lists the type")
    refused(nodata("k.example.", c.TXT, "*.example. a.example. CNAME RRSIG NSEC", cover), "CNAME")
    refused(nodata("k.example.", c.TXT, "*.example. a.example. NS RRSIG NSEC", cover), "parent's side")


def test_the_wildcard_of_another_encloser_proves_nothing() -> None:
    records = "*.example. a.example. TXT RRSIG NSEC", "a.b.example. c.example. A RRSIG NSEC"
    refused(nodata("k.b.example.", c.A, *records), "no NSEC record shows the wildcard")


def test_the_wildcard_is_an_empty_non_terminal() -> None:
    proof = nodata("k.example.", c.A, "example. x.*.example. NS SOA RRSIG NSEC", "h.example. m.example. A RRSIG NSEC")
    assert proof.reason == "NSEC covers the name and shows its wildcard as an empty non-terminal"


def test_wildcard_nodata_needs_the_name_covered() -> None:
    refused(nodata("k.example.", c.A, "*.example. a.example. TXT RRSIG NSEC"), "matches or covers")


# Compact denial (RFC 9824)


def test_nxname_denies_the_name() -> None:
    record = "k.example. \\000.k.example. RRSIG NSEC TYPE128"
    assert nxdomain("k.example.", record).kind is ProofKind.NXDOMAIN
    assert nodata("k.example.", c.A, record).kind is ProofKind.NODATA
    assert either("k.example.", c.A, record).kind is ProofKind.NXDOMAIN


def test_nxname_beside_data_denies_no_name() -> None:
    refused(nxdomain("k.example.", "k.example. \\000.k.example. A RRSIG NSEC TYPE128"), "matches the name")


def test_nxname_of_another_name_denies_nothing() -> None:
    refused(nxdomain("l.example.", "k.example. \\000.k.example. RRSIG NSEC TYPE128"), "no NSEC record covers")


def test_a_compact_denial_without_nxname_is_nodata() -> None:
    record = "k.example. \\000.k.example. RRSIG NSEC"
    assert nodata("k.example.", c.A, record).kind is ProofKind.NODATA
    refused(nxdomain("k.example.", record), "matches the name")


# Whichever the records show


def test_either_tells_which() -> None:
    assert either("k.example.", c.A, APEX, "h.example. m.example. A RRSIG NSEC").kind is ProofKind.NXDOMAIN
    assert either("h.example.", c.TXT, APEX, "h.example. m.example. A RRSIG NSEC").kind is ProofKind.NODATA
    wildcard = "*.example. a.example. TXT RRSIG NSEC"
    assert either("k.example.", c.A, wildcard, "h.example. m.example. A RRSIG NSEC").kind is ProofKind.WILDCARD_NODATA


def test_either_says_what_is_missing() -> None:
    refused(either("h.example.", c.A, "h.example. m.example. A RRSIG NSEC"), "lists the type")
    refused(either("k.example.", c.A, "h.example. m.example. A RRSIG NSEC"), "wildcard at the closest encloser")


# Positive wildcards (RFC 4035 5.3.4)


def test_no_closer_match() -> None:
    proof = no_closer("k.example.", 1, "h.example. m.example. A RRSIG NSEC")
    assert (proof.kind, proof.closest_encloser) == (ProofKind.NXDOMAIN, EXAMPLE)


def test_a_closer_match_exists() -> None:
    refused(no_closer("k.example.", 1, "k.example. m.example. A RRSIG NSEC"), "matches the name")
    refused(no_closer("k.example.", 1, "h.example. x.k.example. A RRSIG NSEC"), "empty non-terminal")


def test_a_closer_encloser_exists() -> None:
    """The wildcard *.example. does not apply below b.example."""
    refused(no_closer("k.b.example.", 1, "a.b.example. c.example. A RRSIG NSEC"), "closer encloser exists: b.example.")
    assert no_closer("k.b.example.", 2, "a.b.example. c.example. A RRSIG NSEC").kind is ProofKind.NXDOMAIN


def test_a_name_of_its_own_is_no_expansion() -> None:
    refused(no_closer("k.example.", 2, "h.example. m.example. A RRSIG NSEC"), "not expanded")


# DS (RFC 4035 5.2, RFC 6840 4.4)


def test_an_unsigned_delegation() -> None:
    proof = no_ds("sub.example.", "sub.example. z.example. NS RRSIG NSEC")
    assert (proof.kind, proof.secure, len(proof.used)) == (ProofKind.NO_DS, True, 1)


def test_a_delegation_with_ds() -> None:
    refused(no_ds("sub.example.", "sub.example. z.example. NS DS RRSIG NSEC"), "lists a DS")


def test_the_childs_apex_does_not_deny_its_ds() -> None:
    refused(no_ds("sub.example.", "sub.example. z.example. NS SOA RRSIG NSEC DNSKEY"), "child's apex")
    refused(no_ds("example.", APEX), "zone above its owner")
    refused(no_ds(".", ". aaa. NS SOA RRSIG NSEC", zone="."), "zone above its owner")


@pytest.mark.parametrize(
    "record",
    [
        "k.example. z.example. A RRSIG NSEC",
        "k.example. z.example. CNAME RRSIG NSEC",
        "h.example. x.k.example. A RRSIG NSEC",
        "h.example. m.example. A RRSIG NSEC",
    ],
)
def test_no_delegation(record: str) -> None:
    """Data, an alias, an empty non-terminal, or nothing at all: the name is its parent's."""
    assert no_ds("k.example.", record).kind is ProofKind.NOT_A_CUT


def test_an_expanded_record_shows_no_unsigned_delegation() -> None:
    """The NS of a wildcard is not the NS of the name (RFC 4035 5.3.2); nor does it show what the name itself is."""
    refused(no_ds("sub.example.", nsec("sub.example. a.example. NS RRSIG NSEC", labels=1)), "matches or covers")


def test_a_ds_that_no_record_speaks_of() -> None:
    refused(no_ds("q.example.", "h.example. m.example. A RRSIG NSEC"), "matches or covers")
    refused(no_ds("q.example."), "no usable records")


# Corners of length


def test_there_is_room_for_a_wildcard_beside_the_longest_name() -> None:
    encloser = ".".join(["a" * 63] * 3 + ["b" * 51, "example"]) + "."
    assert len(from_text("c." + encloser)) == 255
    assert nxdomain("c." + encloser, f"{encloser} z.example. A RRSIG NSEC").closest_encloser == from_text(encloser)
