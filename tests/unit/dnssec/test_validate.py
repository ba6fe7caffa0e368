"""Answers judged: each kind of answer, and each way in which it can be false."""

import struct

import pytest
from memory_tree import TTL, WALL, SigningKey, Tree, Zone, name, signed, usual_tree
from msgspec.structs import replace

from dohproxy.dnssec.budget import Budget, Cost
from dohproxy.dnssec.validate import Limits, validate
from dohproxy.errors import BudgetExhausted, UpstreamFailed
from dohproxy.model import Answer, Question, RRset, Security
from dohproxy.wire import constants as c

ADDRESS = bytes((192, 0, 2, 1))
SECURE, INSECURE, BOGUS = Security.SECURE, Security.INSECURE, Security.BOGUS


@pytest.fixture
def tree():
    return usual_tree()


def bogus(judgement, code, words):
    assert judgement.security is BOGUS, judgement
    assert (judgement.ede[0].code, words in judgement.ede[0].text) == (code, True), judgement.ede


def without(answer, rdtype):
    def keep(section):
        return tuple(rrset for rrset in section if rrset.rdtype != rdtype)

    return replace(answer, answer=keep(answer.answer), authority=keep(answer.authority))


def changed(answer, rdtype, **fields):
    def change(section):
        return tuple(replace(rrset, **fields) if rrset.rdtype == rdtype else rrset for rrset in section)

    return replace(answer, answer=change(answer.answer), authority=change(answer.authority))


def ask(tree, qname, qtype=c.A):
    return tree.answer(Question(name(qname), qtype))


def key_of(tree, zone):
    return tree.zones[name(zone)].key


@pytest.mark.parametrize(
    ("qname", "qtype", "expected", "count"),
    [
        ("www.example.com", c.A, (SECURE, c.NOERROR), (1, 0)),
        ("www.example.com", c.AAAA, (SECURE, c.NOERROR), (0, 2)),
        ("no.example.com", c.A, (SECURE, c.NXDOMAIN), (0, 3)),
        ("b.example.com", c.A, (SECURE, c.NOERROR), (0, 2)),
        ("many.example.com", c.A, (SECURE, c.NOERROR), (1, 0)),
        ("x.wild.example.com", c.A, (SECURE, c.NOERROR), (1, 1)),
        ("x.wild.example.com", c.AAAA, (SECURE, c.NOERROR), (0, 2)),
        ("x.wildalias.example.com", c.A, (SECURE, c.NOERROR), (2, 1)),
        ("alias.example.com", c.A, (SECURE, c.NOERROR), (2, 0)),
        ("alias.example.com", c.CNAME, (SECURE, c.NOERROR), (1, 0)),
        ("alias.example.com", c.AAAA, (SECURE, c.NOERROR), (1, 2)),
        ("far.example.com", c.A, (SECURE, c.NOERROR), (2, 0)),
        ("gone.example.com", c.A, (SECURE, c.NXDOMAIN), (1, 2)),
        ("www.old.example.com", c.A, (SECURE, c.NOERROR), (3, 0)),
        ("www.old.example.com", c.CNAME, (SECURE, c.NOERROR), (2, 0)),
        ("old.example.com", c.DNAME, (SECURE, c.NOERROR), (1, 0)),
        ("no.old.example.com", c.A, (SECURE, c.NXDOMAIN), (2, 2)),
        ("out.example.com", c.A, (INSECURE, c.NOERROR), (2, 0)),
        ("www.insecure.com", c.A, (INSECURE, c.NOERROR), (1, 0)),
        ("no.insecure.com", c.A, (INSECURE, c.NXDOMAIN), (0, 1)),
        ("www.below.insecure.com", c.A, (INSECURE, c.NOERROR), (1, 0)),
        ("example.com", c.DS, (SECURE, c.NOERROR), (1, 0)),
        ("insecure.com", c.DS, (SECURE, c.NOERROR), (0, 2)),
        ("b.example.com", c.DS, (SECURE, c.NOERROR), (0, 2)),
        (".", c.DS, (SECURE, c.NOERROR), (0, 2)),
        (".", c.DNSKEY, (SECURE, c.NOERROR), (1, 0)),
        ("alias.example.com", c.DS, (SECURE, c.NOERROR), (1, 2)),
        ("example.com", c.SOA, (SECURE, c.NOERROR), (1, 0)),
    ],
)
def test_honest_answers(tree, qname, qtype, expected, count):
    judgement = tree.judge(qname, qtype)
    assert (judgement.security, judgement.rcode) == expected
    assert judgement.ede == ()
    assert (len(judgement.answer), len(judgement.authority)) == count


def test_what_is_not_part_of_the_answer_is_dropped(tree):
    given = ask(tree, "www.example.com")
    stray = RRset(name("evil.example.net"), c.A, TTL, (ADDRESS,))
    ns = RRset(name("example.com"), c.NS, TTL, (name("ns.example.net"),))
    judgement = tree.judge("www.example.com", answer=replace(given, answer=(stray, *given.answer), authority=(ns,)))
    assert (judgement.security, judgement.answer, judgement.authority) == (SECURE, given.answer, ())


def test_data_that_does_not_verify(tree):
    given = ask(tree, "www.example.com")
    tag = key_of(tree, "example.com").tag
    forged = changed(given, c.A, rdatas=(b"\1\2\3\4",))
    words = f"www.example.com. A: RRSIG by key {tag} does not verify (zone example.com.)"
    judgement = tree.judge("www.example.com", answer=forged)
    bogus(judgement, c.EDE_BOGUS, words)
    assert (judgement.answer, judgement.rcode, judgement.blame) == (forged.answer, c.NOERROR, ())
    expired = given.answer[0]
    expired = signed(expired, key_of(tree, "example.com"), name("example.com"), expiration=WALL - 1)
    bogus(tree.judge("www.example.com", answer=replace(given, answer=(expired,))), c.EDE_SIGNATURE_EXPIRED, "expired 2027")


def test_ttls_are_capped(tree):
    given = changed(ask(tree, "no.example.com"), c.SOA, ttl=99999)
    judgement = tree.judge("no.example.com", answer=given)
    assert {rrset.ttl for rrset in judgement.authority} == {TTL}


# Wildcards


def test_an_expanded_wildcard_needs_proof_that_nothing_is_closer(tree):
    """RFC 4035 5.3.4."""
    given = ask(tree, "x.wild.example.com")
    bogus(tree.judge("x.wild.example.com", answer=replace(given, authority=())), c.EDE_NSEC_MISSING, "x.wild.example.com. A")
    unsigned = changed(given, c.NSEC, signatures=())
    bogus(tree.judge("x.wild.example.com", answer=unsigned), c.EDE_RRSIGS_MISSING, "NSEC: there is no RRSIG")


def test_an_expanded_wildcard_in_front_of_a_name_that_exists(tree):
    zone = tree.zones[name("example.com")]
    wildcard = zone.get(name("*.wild.example.com"), c.A)
    fake = replace(wildcard, owner=name("www.wild.example.com"))
    proof = zone.nsec_about(name("www.example.com"))
    bogus(
        tree.judge("www.wild.example.com", answer=Answer(0, (fake,), (proof,))), c.EDE_NSEC_MISSING, "its absence is not proven"
    )


def test_the_proof_is_needed_inside_a_chain_of_aliases_too(tree):
    given = ask(tree, "x.wildalias.example.com")
    judgement = tree.judge("x.wildalias.example.com", answer=replace(given, authority=()))
    bogus(judgement, c.EDE_NSEC_MISSING, "x.wildalias.example.com. CNAME")


def test_the_wildcard_itself_may_be_asked_for(tree):
    judgement = tree.judge("*.wild.example.com")
    assert (judgement.security, judgement.authority) == (SECURE, ())


# Aliases


def test_an_alias_across_zones_is_verified_under_each_zones_keys(tree):
    given = ask(tree, "far.example.com")
    www = signed(given.answer[1], key_of(tree, "example.com"), name("other.net"))
    forged = replace(given, answer=(given.answer[0], www))
    tree.mangle = lambda q, a: replace(a, answer=(www,)) if q == Question(name("www.other.net"), c.A) else a
    bogus(tree.judge("far.example.com", answer=forged), c.EDE_DNSKEY_MISSING, "www.other.net. A: RRSIG is by key")


def test_what_a_resolver_cut_from_a_chain_is_asked_for(tree):
    given = ask(tree, "far.example.com")
    judgement = tree.judge("far.example.com", answer=replace(given, answer=given.answer[:1]))
    assert (judgement.security, judgement.answer) == (SECURE, given.answer)
    stripped = replace(given, answer=(given.answer[0], replace(given.answer[1], signatures=())))
    judgement = tree.judge("far.example.com", answer=stripped)
    assert (judgement.security, judgement.answer) == (SECURE, given.answer)
    given = ask(tree, "gone.example.com")
    judgement = tree.judge("gone.example.com", answer=replace(given, rcode=c.NOERROR, authority=()))
    assert (judgement.security, judgement.rcode) == (SECURE, c.NXDOMAIN)


def test_aliases_in_a_circle_and_without_end(tree):
    bogus(tree.judge("loop.example.com"), c.EDE_BOGUS, "loop.example.com.: aliases lead in a circle")
    zone = Zone("test", SigningKey(13))
    for n in range(20):
        zone.add(f"a{n}.test", c.CNAME, name(f"a{n + 1}.test"))
    long = Tree(zone)
    bogus(long.judge("a0.test"), c.EDE_OTHER, "validation budget exhausted: aliases")
    assert long.budget.spent[Cost.ALIASES] == long.budget.limits[Cost.ALIASES]


def test_two_cnames_at_one_name_are_malformed(tree):
    zone = tree.zones[name("example.com")]
    two = RRset(name("two.example.com"), c.CNAME, TTL, (name("www.example.com"), name("b.example.com")))
    judgement = tree.judge("two.example.com", answer=Answer(0, (signed(two, zone.key, zone.origin),)))
    bogus(judgement, c.EDE_BOGUS, "two.example.com. A: malformed: there is more than one")


def test_the_cname_of_a_dname_is_recomputed(tree):
    """RFC 6672 5.3.1."""
    given = ask(tree, "www.old.example.com")
    dname, cname, address = given.answer
    other = replace(cname, rdatas=(name("evil.other.net"),))
    words = "www.old.example.com. CNAME: is not what the DNAME at old.example.com. makes"
    bogus(tree.judge("www.old.example.com", answer=replace(given, answer=(dname, other, address))), c.EDE_BOGUS, words)
    missing = tree.judge("www.old.example.com", answer=replace(given, answer=(dname, address)))
    assert (missing.security, missing.answer) == (SECURE, given.answer)
    unsigned = tree.judge("www.old.example.com", answer=changed(given, c.DNAME, signatures=()))
    bogus(unsigned, c.EDE_RRSIGS_MISSING, "old.example.com. DNAME: no RRSIG")


def test_the_cname_of_a_dname_is_not_more_than_its_target(tree):
    """What follows the target in its RDATA is signed by nobody."""
    given = ask(tree, "www.old.example.com", c.CNAME)
    more = changed(given, c.CNAME, rdatas=(given.answer[1].rdatas[0] + b"\3abc\0",))
    assert tree.judge("www.old.example.com", c.CNAME, more).answer == given.answer
    upper = changed(given, c.CNAME, rdatas=(given.answer[1].rdatas[0].upper(),))
    assert tree.judge("www.old.example.com", c.CNAME, upper).answer == upper.answer


def test_a_cname_without_its_dname_needs_a_signature(tree):
    given = without(ask(tree, "www.old.example.com"), c.DNAME)
    bogus(
        tree.judge("www.old.example.com", answer=given), c.EDE_RRSIGS_MISSING, "www.old.example.com. CNAME: there is no RRSIG"
    )


def test_a_dname_that_leads_to_too_long_a_name(tree):
    """RFC 6672 2.2: YXDOMAIN; whatever it is, it is no secure data."""
    long = ".".join(["x" * 60] * 4)
    zone = tree.zones[name("example.com")]
    dname = signed(RRset(name("long.example.com"), c.DNAME, TTL, (name(long),)), zone.key, zone.origin)
    judgement = tree.judge("twentyoctets.long.example.com", answer=Answer(c.YXDOMAIN, (dname,)))
    assert (judgement.security, judgement.rcode, judgement.answer) == (INSECURE, c.YXDOMAIN, (dname,))
    bogus(tree.judge("www.example.com", answer=Answer(c.YXDOMAIN)), c.EDE_BOGUS, "YXDOMAIN, but no DNAME is the cause")


def test_a_dname_from_a_wildcard_is_refused(tree):
    zone = tree.zones[name("example.com")]
    dname = RRset(name("x.example.com"), c.DNAME, TTL, (name("other.net"),))
    dname = signed(dname, zone.key, zone.origin, source=name("*.example.com"))
    bogus(tree.judge("www.x.example.com", answer=Answer(0, (dname,))), c.EDE_BOGUS, "DNAME: made from a wildcard")


# Absence


def test_absence_needs_proof(tree):
    for qname, qtype in (("www.example.com", c.AAAA), ("no.example.com", c.A)):
        given = ask(tree, qname, qtype)
        bogus(tree.judge(qname, qtype, without(given, c.NSEC)), c.EDE_NSEC_MISSING, "its absence is not proven")
        bare = without(without(given, c.NSEC), c.SOA)
        bogus(tree.judge(qname, qtype, bare), c.EDE_NSEC_MISSING, "there is no signed NSEC or NSEC3 (zone example.com.)")
        stripped = changed(changed(given, c.NSEC, signatures=()), c.SOA, signatures=())
        bogus(tree.judge(qname, qtype, stripped), c.EDE_RRSIGS_MISSING, "example.com. SOA: no RRSIG")


def test_a_ds_is_denied_with_the_wildcard_that_would_have_it(tree):
    """RFC 4035 5.4: that a name is no zone cut does not say that no wildcard stands for it."""
    other = Tree(Zone("test", SigningKey(13)).add("*.test", c.TXT, b"\1x").add("m.test", c.TXT, b"\1x"))
    given = ask(other, "x.test", c.DS)
    assert other.judge("x.test", c.DS, given).security is SECURE
    covering = tuple(rrset for rrset in given.authority if rrset.owner != name("*.test"))
    assert len(covering) < len(given.authority)
    judgement = other.judge("x.test", c.DS, replace(given, authority=covering))
    bogus(judgement, c.EDE_NSEC_MISSING, "no NSEC record shows the wildcard without the type")
    alias = tree.zones[name("example.com")].get(name("alias.example.com"), c.NSEC)
    judgement = tree.judge("alias.example.com", c.DS, Answer(0, (), (alias,)))
    bogus(judgement, c.EDE_NSEC_MISSING, "lists a CNAME")


def test_a_negative_answer_without_soa_is_fine_but_not_with_a_false_one(tree):
    given = ask(tree, "no.example.com")
    assert tree.judge("no.example.com", answer=without(given, c.SOA)).security is SECURE
    forged = changed(given, c.SOA, rdatas=(b"\0\0" + bytes(20),))
    bogus(tree.judge("no.example.com", answer=forged), c.EDE_BOGUS, "example.com. SOA: RRSIG by key")


def test_existing_data_cannot_be_denied_with_other_records(tree):
    bogus(tree.judge("www.example.com", answer=ask(tree, "no.example.com")), c.EDE_NSEC_MISSING, "is not proven")
    bogus(tree.judge("www.example.com", answer=ask(tree, "www.example.com", c.AAAA)), c.EDE_NSEC_MISSING, "is not proven")
    bogus(tree.judge("www.example.com", answer=ask(tree, "no.other.net")), c.EDE_NSEC_MISSING, "is not proven")


def test_the_rcode_is_as_proven(tree):
    nodata = ask(tree, "www.example.com", c.AAAA)
    judgement = tree.judge("www.example.com", c.AAAA, replace(nodata, rcode=c.NXDOMAIN))
    assert (judgement.security, judgement.rcode) == (SECURE, c.NOERROR)
    data = ask(tree, "www.example.com")
    for rcode in (c.NXDOMAIN, c.YXDOMAIN):
        judgement = tree.judge("www.example.com", answer=replace(data, rcode=rcode))
        assert (judgement.security, judgement.rcode, judgement.answer) == (SECURE, c.NOERROR, data.answer)
    judgement = tree.judge("www.insecure.com", answer=replace(ask(tree, "www.insecure.com"), rcode=c.NXDOMAIN))
    assert (judgement.security, judgement.rcode) == (INSECURE, c.NXDOMAIN)
    refused = tree.judge("www.example.com", answer=Answer(c.REFUSED))
    assert (refused.security, refused.ede[0].code) == (Security.INDETERMINATE, c.EDE_INDETERMINATE)


def test_an_nxdomain_beside_a_cname_asked_for_is_of_its_target(tree):
    """RFC 6604 2."""
    denial = ask(tree, "gone.example.com")
    told = replace(denial, answer=denial.answer[:1])
    judgement = tree.judge("gone.example.com", c.CNAME, told)
    assert (judgement.security, judgement.rcode, len(judgement.answer)) == (SECURE, c.NXDOMAIN, 1)
    false = replace(ask(tree, "alias.example.com", c.CNAME), rcode=c.NXDOMAIN)
    judgement = tree.judge("alias.example.com", c.CNAME, false)
    assert judgement.security is not SECURE or judgement.rcode == c.NOERROR


def test_insecure_absence_beyond_a_secure_alias():
    """The NSEC of a wildcard on the way does not make bogus what an insecure zone below the same zone denies."""
    key = SigningKey(13)
    zone = Zone("test", key).add("*.test", c.CNAME, name("no.sub.test"))
    tree = Tree(zone, Zone("sub.test", None))
    alias = tree.answer(Question(name("x.test"), c.A))
    assert {rrset.rdtype for rrset in alias.authority} == {c.NSEC, c.SOA}
    judgement = tree.judge("x.test")
    assert (judgement.security, judgement.rcode, judgement.ede) == (INSECURE, c.NXDOMAIN, ())
    assert [(rrset.owner, rrset.rdtype) for rrset in judgement.authority] == [
        (name("sub.test"), c.NSEC),
        (name("sub.test"), c.SOA),
    ]


def test_what_cannot_be_asked_for_leaves_the_first_verdict(tree):
    given = ask(tree, "far.example.com")
    stripped = replace(given, answer=(given.answer[0], replace(given.answer[1], signatures=())))
    place = Question(name("www.other.net"), c.A)
    tree.mangle = lambda question, answer: UpstreamFailed("gone") if question == place else answer
    bogus(tree.judge("far.example.com", answer=stripped), c.EDE_RRSIGS_MISSING, "www.other.net. A: no RRSIG")


def test_an_insecure_dname_leads_where_its_zone_says(tree):
    dname = RRset(name("d.insecure.com"), c.DNAME, TTL, (name("insecure.com"),))
    cname = RRset(name("x.d.insecure.com"), c.CNAME, TTL, (name("www.insecure.com"),))
    address = tree.zones[name("insecure.com")].get(name("www.insecure.com"), c.A)
    judgement = tree.judge("x.d.insecure.com", answer=Answer(0, (dname, cname, address)))
    assert (judgement.security, judgement.answer) == (INSECURE, (dname, cname, address))


# Odd questions


def test_any_is_judged_record_by_record(tree):
    zone = tree.zones[name("example.com")]
    owner = name("www.example.com")
    records = tuple(rrset for (have, _), rrset in zone.data.items() if have == owner)
    judgement = tree.judge("www.example.com", c.ANY, Answer(0, records))
    assert (judgement.security, judgement.answer) == (SECURE, records)
    extra = RRset(owner, c.TXT, TTL, (b"\1x",))
    bogus(tree.judge("www.example.com", c.ANY, Answer(0, (*records, extra))), c.EDE_RRSIGS_MISSING, "www.example.com. TXT")


def test_signatures_themselves_cannot_be_secure(tree):
    given = Answer(0, (RRset(name("www.example.com"), c.RRSIG, TTL, (b"x",)),))
    assert tree.judge("www.example.com", c.RRSIG, given).security is INSECURE
    assert tree.judge("no.example.com", c.RRSIG).security is SECURE


def test_other_classes_are_not_judged(tree):
    given = Answer(0, (RRset(name("version.bind"), c.TXT, 0, (b"\1x",), (), c.CH),))
    judging = validate(Question(name("version.bind"), c.TXT, c.CH), given, tree.world())
    assert tree.drive(judging).security is Security.UNCHECKED
    judging = validate(Question(name("www.example.com"), c.A, c.CLASS_ANY), ask(tree, "www.example.com"), tree.world())
    assert tree.drive(judging).security is SECURE


def test_many_false_signatures_cost_a_bounded_number_of_tries(tree):
    """KeyTrap, CVE-2023-50387."""
    given = ask(tree, "www.example.com")
    good = given.answer[0].signatures[0]
    trap = changed(given, c.A, signatures=tuple(good[:-2] + struct.pack("!H", n) for n in range(500)))
    tree.judge("www.example.com")
    judgement = tree.judge("www.example.com", answer=trap)
    bogus(judgement, c.EDE_OTHER, "validation budget exhausted: failed signatures")
    assert tree.budget.exhausted is Cost.FAILURES
    assert tree.budget.spent[Cost.SIGNATURES] == tree.budget.limits[Cost.FAILURES] + 1


def test_nsec3_iterations_beyond_the_limit_are_insecure_once_verified(tree):
    """RFC 9276 3.2; EDE 27."""
    zone = tree.zones[name("example.com")]
    owner = name("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example.com")
    rdata = struct.pack("!BBHB", 1, 0, 500, 0) + b"\x14" + bytes(20) + b"\0\1\x40"
    proof = signed(RRset(owner, c.NSEC3, TTL, (rdata,)), zone.key, zone.origin)
    soa = zone.get(zone.origin, c.SOA)
    tree.limits = Limits(150, 0, 0)
    judgement = tree.judge("no.example.com", answer=Answer(c.NXDOMAIN, (), (soa, proof)))
    assert (judgement.security, judgement.ede[0].code) == (INSECURE, c.EDE_UNSUPPORTED_NSEC3_ITERATIONS)
    assert judgement.authority == (soa, proof)  # for those who validate behind us, and have another limit
    good = proof.signatures[0]
    forged = replace(proof, signatures=(good[:-1] + bytes([good[-1] ^ 1]),))
    bogus(tree.judge("no.example.com", answer=Answer(c.NXDOMAIN, (), (soa, forged))), c.EDE_BOGUS, "NSEC3: RRSIG by key")
    assert tree.budget.spent[Cost.HASHES] == 0


def test_budget_counts_and_refuses():
    budget = Budget({**Budget().limits, Cost.HASHES: 3})
    budget.spend(Cost.HASHES, 3)
    with pytest.raises(BudgetExhausted, match="validation budget exhausted: NSEC3 hashes"):
        budget.spend(Cost.HASHES)
    assert (budget.spent[Cost.HASHES], budget.exhausted) == (3, Cost.HASHES)
