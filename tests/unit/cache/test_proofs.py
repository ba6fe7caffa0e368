"""Answers made of proofs (RFC 8198)."""

from __future__ import annotations

import base64

import dns.rdata
import pytest
import zone_model
from hypothesis import given, settings
from hypothesis import strategies as st

from dohproxy.cache import proofs
from dohproxy.cache.proofs import ProofStore
from dohproxy.dnssec import bitmap, nsec3
from dohproxy.dnssec.proof import ProofKind
from dohproxy.model import Answer, Name, Question, RRset, Security, Source
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text, is_wildcard, label_count, order, to_text

EXAMPLE = from_text("example.")
NOW = 1000.0


def signed(rrset: RRset, *, labels: int | None = None, signer: bytes = EXAMPLE) -> RRset:
    if labels is None:
        labels = label_count(rrset.owner) - is_wildcard(rrset.owner)
    signature = rrset.rdtype.to_bytes(2, "big") + bytes((13, labels)) + bytes(14) + signer + bytes(64)
    return RRset(rrset.owner, rrset.rdtype, rrset.ttl, rrset.rdatas, (signature,))


def record(text: str, *, ttl: int = 600, labels: int | None = None, signer: str = "example.") -> RRset:
    """`owner TYPE rdata`"""
    owner, rdtype, rdata = text.split(maxsplit=2)
    wire = dns.rdata.from_text("IN", rdtype, rdata).to_wire()
    return signed(RRset(from_text(owner), getattr(c, rdtype), ttl, (wire,)), labels=labels, signer=from_text(signer))


def hashed(name: str, types: str = "A RRSIG", *, opt_out: bool = False, iterations: int = 0, width: int = 1) -> RRset:
    """An NSEC3 that matches `name`, or with `width` 0 one that covers it."""
    number = int.from_bytes(nsec3.hash_name(from_text(name), b"", iterations), "big")
    low, high = number - (width == 0), number + 1
    rdata = bytes((1, opt_out)) + iterations.to_bytes(2, "big") + b"\0\x14" + high.to_bytes(20, "big")
    rdata += bitmap.build(getattr(c, mnemonic) for mnemonic in types.split())
    label = base64.b32hexencode(low.to_bytes(20, "big")).lower()
    return signed(RRset(b"\x20" + label + EXAMPLE, c.NSEC3, 600, (rdata,)))


def covering(name: str, *, opt_out: bool = False, iterations: int = 0) -> RRset:
    return hashed(name, opt_out=opt_out, iterations=iterations, width=0)


SOA = record("example. SOA ns.example. host.example. 1 2 3 4 300", ttl=900)
APEX = record("example. NSEC a.example. NS SOA RRSIG NSEC DNSKEY")
H_TO_M = record("h.example. NSEC m.example. A RRSIG NSEC")
APEX3 = hashed("example.", "NS SOA RRSIG DNSKEY NSEC3PARAM")


def negative(*rrsets: RRset, security: Security = Security.SECURE) -> Answer:
    return Answer(c.NXDOMAIN, (), rrsets, security)


def store(*rrsets: RRset, limit: int = 1 << 20) -> ProofStore:
    made = ProofStore(limit)
    made.learn(negative(*rrsets), NOW)
    return made


def ask(held: ProofStore, qname: str, qtype: int = c.A, now: float = NOW) -> Answer | None:
    return held.synthesize(Question(from_text(qname), qtype), now)


def test_a_name_in_a_span_does_not_exist() -> None:
    answer = ask(store(SOA, APEX, H_TO_M), "k.example.")
    assert answer is not None
    assert (answer.rcode, answer.security, answer.source) == (c.NXDOMAIN, Security.SECURE, Source.SYNTHESIS)
    assert [(to_text(rrset.owner), rrset.rdtype) for rrset in answer.authority] == [
        ("example.", c.SOA),
        ("h.example.", c.NSEC),
        ("example.", c.NSEC),
    ]
    assert all(rrset.signatures for rrset in answer.authority)
    assert [ede.code for ede in answer.ede] == [c.EDE_SYNTHESIZED]
    assert answer.born == NOW


def test_a_type_that_is_not_there() -> None:
    answer = ask(store(SOA, H_TO_M), "h.example.", c.AAAA)
    assert answer is not None
    assert (answer.rcode, len(answer.authority)) == (c.NOERROR, 2)


@pytest.mark.parametrize(
    ("qname", "qtype"),
    [
        ("h.example.", c.A),
        ("n.example.", c.A),
        ("g.example.", c.A),
        ("test.", c.A),
        ("h.example.", c.AXFR),
        ("h.example.", c.ANY),
    ],
)
def test_where_proofs_do_not_reach(qname: str, qtype: int) -> None:
    assert ask(store(SOA, APEX, H_TO_M), qname, qtype) is None


def test_the_wildcard_must_be_denied() -> None:
    assert ask(store(SOA, H_TO_M), "k.example.") is None


def test_an_empty_non_terminal_has_no_data() -> None:
    answer = ask(store(SOA, record("h.example. NSEC x.k.example. A RRSIG NSEC")), "k.example.")
    assert answer is not None
    assert answer.rcode == c.NOERROR


def test_without_soa_nothing_is_denied() -> None:
    assert ask(store(APEX, H_TO_M), "k.example.") is None


def test_the_root_zone_denies() -> None:
    soa = record(". SOA ns. host. 1 2 3 4 300", signer=".")
    apex = record(". NSEC aaa. NS SOA RRSIG NSEC DNSKEY", signer=".")
    held = store(soa, apex, record("h. NSEC m. NS DS RRSIG NSEC", signer="."))
    answer = ask(held, "www.k.")
    assert answer is not None
    assert answer.rcode == c.NXDOMAIN
    assert ask(held, "www.h.") is None


def test_other_classes_are_not_answered() -> None:
    assert store(SOA, H_TO_M).synthesize(Question(from_text("h.example."), c.TXT, c.CH), NOW) is None


# Delegations


@pytest.mark.parametrize("types", ["NS RRSIG NSEC", "NS DS RRSIG NSEC", "DNAME RRSIG NSEC"])
def test_nothing_is_said_of_names_below_a_delegation_or_dname(types: str) -> None:
    held = store(SOA, APEX, record(f"sub.example. NSEC z.example. {types}"))
    assert ask(held, "www.sub.example.") is None


def test_of_a_delegation_only_its_ds_is_denied() -> None:
    held = store(SOA, APEX, record("sub.example. NSEC z.example. NS RRSIG NSEC"))
    assert ask(held, "sub.example.") is None
    assert ask(held, "sub.example.", c.DS) is not None


def test_the_ds_of_a_zone_is_not_denied_by_the_zone() -> None:
    sub = record("sub.example. NSEC sub.example. NS SOA RRSIG NSEC DNSKEY", signer="sub.example.")
    soa = record("sub.example. SOA ns.example. host.example. 1 2 3 4 300", signer="sub.example.")
    held = store(soa, sub)
    assert ask(held, "sub.example.", c.TXT) is not None
    assert ask(held, "sub.example.", c.DS) is None


# Compact denial


def test_a_compact_denial_is_told_with_noerror() -> None:
    answer = ask(store(SOA, record("k.example. NSEC \\000.k.example. RRSIG NSEC TYPE128")), "k.example.")
    assert answer is not None
    assert answer.rcode == c.NOERROR


# Time


def test_ttls_are_what_is_left_of_the_shortest() -> None:
    """RFC 8198 5.4: the SOA's minimum is 300."""
    held = store(SOA, APEX, H_TO_M)
    answer = ask(held, "k.example.", now=NOW + 100.5)
    assert answer is not None
    assert {rrset.ttl for rrset in answer.authority} == {199}
    assert ask(held, "k.example.", now=NOW + 299.5) is None


def test_a_short_proof_bounds_the_answer() -> None:
    short = record("h.example. NSEC m.example. A RRSIG NSEC", ttl=20)
    held = store(SOA, APEX, short)
    answer = ask(held, "k.example.")
    assert answer is not None
    assert {rrset.ttl for rrset in answer.authority} == {20}
    assert ask(held, "k.example.", now=NOW + 20) is None
    assert len(held) == 2


def test_a_denial_ends_with_the_minimum_of_the_soa_even_where_the_soa_is_fresher() -> None:
    held = store(SOA, APEX, H_TO_M)
    held.learn(negative(SOA), NOW + 290)
    assert ask(held, "k.example.", now=NOW + 310) is None


def test_max_ttl_bounds_all() -> None:
    held = ProofStore(1 << 20, max_ttl=10)
    held.learn(negative(SOA, H_TO_M), NOW)
    assert ask(held, "h.example.", c.TXT, NOW + 8) is not None
    assert ask(held, "h.example.", c.TXT, NOW + 10) is None


# What is learnt


@pytest.mark.parametrize("security", [kind for kind in Security if kind is not Security.SECURE])
def test_only_secure_answers_teach(security: Security) -> None:
    held = ProofStore(1 << 20)
    held.learn(negative(SOA, APEX, H_TO_M, security=security), NOW)
    assert len(held) == 0


def test_what_was_made_up_here_does_not_teach() -> None:
    held = store(SOA, H_TO_M)
    answer = ask(held, "h.example.", c.TXT)
    assert answer is not None
    other = ProofStore(1 << 20)
    other.learn(answer, NOW)
    assert len(other) == 0


@pytest.mark.parametrize(
    "rrset",
    [
        RRset(from_text("h.example."), c.NSEC, 600, H_TO_M.rdatas),
        RRset(from_text("h.example."), c.NSEC, 600, H_TO_M.rdatas, (b"\0" * 19,)),
        RRset(from_text("h.example."), c.NSEC, 600, H_TO_M.rdatas, (H_TO_M.signatures[0][:20],)),
        RRset(from_text("h.example."), c.NSEC, 0, H_TO_M.rdatas, H_TO_M.signatures),
        RRset(from_text("h.example."), c.NSEC, 600, H_TO_M.rdatas, H_TO_M.signatures, c.CH),
        record("h.example. NSEC m.test. A RRSIG NSEC"),
        record("h.test. NSEC m.test. A RRSIG NSEC"),
        record("h.example. NSEC m.example. A RRSIG NSEC", labels=1),
        record("h.example. A 192.0.2.1"),
        record("sub.example. SOA ns.example. host.example. 1 2 3 4 300"),
        hashed("h.example.", opt_out=True),
        hashed("h.example.", iterations=proofs.MAX_ITERATIONS + 1),
    ],
)
def test_what_is_not_kept(rrset: RRset) -> None:
    assert len(store(rrset)) == 0


def test_a_newer_record_takes_the_place_of_those_in_its_span() -> None:
    held = store(SOA, APEX, H_TO_M, record("m.example. NSEC r.example. A RRSIG NSEC"))
    assert ask(held, "m.example.") is None
    held.learn(negative(record("h.example. NSEC r.example. A RRSIG NSEC")), NOW + 1)
    answer = ask(held, "m.example.", now=NOW + 1)
    assert answer is not None
    assert answer.rcode == c.NXDOMAIN


def test_answers_teach_too() -> None:
    """NSEC that was asked for by type."""
    held = store(SOA, APEX)
    held.learn(Answer(c.NOERROR, (H_TO_M,), (), Security.SECURE), NOW)
    assert ask(held, "k.example.") is not None


# Wildcards (RFC 8198 5.3)


WILD = record("x.example. TXT hello", labels=1)
WILD_NSEC = record("*.example. NSEC a.example. TXT RRSIG NSEC")


def wild_store() -> ProofStore:
    held = store(SOA, APEX)
    held.learn(Answer(c.NOERROR, (WILD,), (WILD_NSEC, H_TO_M), Security.SECURE), NOW)
    return held


def test_a_wildcard_answers_for_other_names() -> None:
    answer = ask(wild_store(), "k.example.", c.TXT)
    assert answer is not None
    assert (answer.rcode, answer.security) == (c.NOERROR, Security.SECURE)
    assert answer.answer == (RRset(from_text("k.example."), c.TXT, 300, WILD.rdatas, WILD.signatures),)
    assert [to_text(rrset.owner) for rrset in answer.authority] == ["h.example."]


def test_a_wildcard_lacks_other_types() -> None:
    answer = ask(wild_store(), "k.example.", c.A)
    assert answer is not None
    assert (answer.rcode, answer.answer) == (c.NOERROR, ())
    assert len(answer.authority) == 3


def test_a_wildcard_does_not_answer_for_names_that_exist() -> None:
    assert ask(wild_store(), "m.example.", c.TXT) is None
    held = wild_store()
    held.learn(negative(record("h.example. NSEC x.k.example. A RRSIG NSEC")), NOW)
    below = ask(held, "k.example.", c.TXT)
    assert below is not None
    assert below.answer == ()


def test_a_wildcards_data_runs_out() -> None:
    held = store(SOA)
    held.learn(Answer(c.NOERROR, (record("x.example. TXT hello", ttl=5, labels=1),), (H_TO_M,), Security.SECURE), NOW)
    assert ask(held, "k.example.", c.TXT, NOW + 3) is not None
    assert ask(held, "k.example.", c.TXT, NOW + 5) is None


def test_nsec3_wildcards() -> None:
    held = store(SOA, APEX3, covering("k.example."))
    held.learn(Answer(c.NOERROR, (WILD,), (), Security.SECURE), NOW)
    answer = ask(held, "k.example.", c.TXT)
    assert answer is not None
    assert answer.answer[0].rdatas == WILD.rdatas
    assert ask(held, "k.example.", c.A) is None


# NSEC3


def test_nsec3_denies_names() -> None:
    answer = ask(store(SOA, APEX3, covering("k.example."), covering("*.example.")), "x.k.example.")
    assert answer is not None
    assert (answer.rcode, len(answer.authority)) == (c.NXDOMAIN, 4)


def test_nsec3_denies_types() -> None:
    answer = ask(store(SOA, APEX3, hashed("h.example.")), "h.example.", c.TXT)
    assert answer is not None
    assert answer.rcode == c.NOERROR
    assert ask(store(SOA, APEX3, hashed("h.example.")), "h.example.") is None


def test_nsec3_denies_types_at_wildcards() -> None:
    answer = ask(store(SOA, APEX3, covering("k.example."), hashed("*.example.")), "k.example.", c.TXT)
    assert answer is not None
    assert answer.rcode == c.NOERROR


def test_opt_out_spans_are_not_used() -> None:
    held = store(SOA, APEX3, covering("k.example.", opt_out=True), covering("*.example."))
    assert ask(held, "k.example.") is None


def test_nothing_is_hashed_without_end() -> None:
    existing = [hashed("x." * depth + "example.", "") for depth in range(1, proofs.MAX_HASHES + 1)]
    for records in ([covering("*.example.")], existing):
        held = store(SOA, APEX3, *records)
        assert ask(held, "x." * 100 + "example.") is None
        (zone,) = held._zones.values()
        assert len(zone.hashes) <= proofs.MAX_HASHES


def test_long_names_are_denied_by_what_is_above_them() -> None:
    """They cost no more than short ones: the first name on the way down that does not exist settles it."""
    held = store(SOA, APEX3, covering("x.example."), covering("*.example."))
    answer = ask(held, "x." * 100 + "example.")
    assert answer is not None
    assert answer.rcode == c.NXDOMAIN


def test_names_are_looked_for_as_deep_as_hashes_are_allowed() -> None:
    deep = [f"{'x.' * depth}example." for depth in range(proofs.MAX_HASHES + 1)]
    held = store(SOA, APEX3, *(hashed(name, "") for name in deep[1:]))
    found = [depth for depth, name in enumerate(deep) if ask(held, name) is not None]
    assert found == list(range(proofs.MAX_HASHES - 1))


def test_new_parameters_take_the_place_of_old_ones() -> None:
    held = store(SOA, APEX3, covering("k.example."), covering("*.example."))
    held.learn(negative(hashed("example.", "NS SOA", iterations=1)), NOW)
    assert len(held) == 2
    assert ask(held, "k.example.") is None


def test_a_newer_hashed_record_takes_the_place_of_those_in_its_span() -> None:
    held = store(SOA, APEX3, hashed("k.example."), covering("*.example."))
    assert len(held) == 4
    held.learn(negative(covering("k.example.")), NOW)
    assert len(held) == 4
    assert ask(held, "k.example.") is not None


def test_remembered_hashes_are_bounded() -> None:
    held = store(SOA, APEX3, covering("*.example."))
    for number in range(proofs.REMEMBERED_HASHES + 10):
        ask(held, f"n{number}.example.")
    (zone,) = held._zones.values()
    assert len(zone.hashes) <= proofs.REMEMBERED_HASHES + proofs.MAX_HASHES


# Size


def many(count: int) -> list[RRset]:
    return [record(f"n{number:04}.example. NSEC n{number:04}a.example. A RRSIG NSEC") for number in range(count)]


def test_octets_are_bounded_and_what_was_not_used_leaves_first() -> None:
    held = store(SOA, APEX, limit=40 * 1600)
    for rrset in many(100):
        held.learn(negative(rrset), NOW)
        assert ask(held, "a.example.", c.A) is None
        assert ask(held, "n0000.example.", c.TXT) is not None
        assert held.octets <= held.limit
    assert 20 < len(held) < 60
    assert ask(held, "n0001.example.", c.TXT) is None
    assert ask(held, "n0099.example.", c.TXT) is not None


def test_what_is_too_big_is_not_kept() -> None:
    assert len(store(H_TO_M, limit=100)) == 0


def test_zones_leave_with_their_last_record() -> None:
    held = store(SOA, H_TO_M)
    assert ask(held, "h.example.", c.TXT, NOW + 10_000) is None
    assert ask(held, "h.example.", c.TXT, NOW + 10_000) is None
    held.clear()
    assert (len(held), held.octets, held._zones) == (0, 0, {})


def test_the_order_of_a_chain_is_kept() -> None:
    held = store(*reversed(many(50)))
    (zone,) = held._zones.values()
    assert list(zone.ordered) == sorted(order(rrset.owner) for rrset in many(50))


# Whole zones


@settings(max_examples=80, deadline=None, derandomize=True)
@given(zone_model.zones(), st.booleans(), st.booleans(), st.data())
def test_what_is_made_up_is_true(zone: zone_model.Zone, by_hash: bool, opt_out: bool, data: st.DataObject) -> None:
    """And with the whole chain at hand all that is absent is known to be, but for what opt-out leaves open."""
    chain = zone.nsec3s(opt_out, b"", 0) if by_hash else list(zone.nsecs().values())
    part = data.draw(st.lists(st.sampled_from(chain), unique_by=id))
    qnames = data.draw(st.lists(zone_model.below_apex, min_size=1, max_size=8))
    whole = ProofStore(1 << 20)
    for rrsets in ([SOA, *part], chain, [SOA, *chain]):
        whole.learn(negative(*rrsets), NOW)
        for qname in qnames:
            for qtype in (c.A, c.DS, c.CNAME):
                truth = zone.truth(qname, qtype)
                answer = whole.synthesize(Question(qname, qtype), NOW)
                if answer is not None:
                    assert isinstance(truth, ProofKind)
                    assert (answer.rcode == c.NXDOMAIN) == (truth is ProofKind.NXDOMAIN)
                elif rrsets[0] is SOA and len(rrsets) > len(chain) and not (by_hash and opt_out):
                    assert not isinstance(truth, ProofKind)


def test_a_zone_may_be_told_not_to_speak_of_some_names() -> None:
    """Such as those below a negative trust anchor: RFC 7646 2."""
    told = []

    def speaks(zone: Name, name: Name) -> bool:
        told.append((to_text(zone), to_text(name)))
        return name != from_text("k.example.")

    held = ProofStore(1 << 20, speaks)
    held.learn(negative(SOA, APEX, H_TO_M), NOW)
    assert ask(held, "k.example.") is None
    assert ask(held, "a.k.example.", c.DS) is None
    assert ask(held, "l.example.") is not None
    assert ask(held, "k.test.") is None
    assert told == [("example.", "k.example."), ("example.", "k.example."), ("example.", "l.example.")]
