"""The chain of trust: anchors, delegations, keys, what is cached, and how little is asked."""

import struct

import pytest
from memory_tree import DAY, TTL, WALL, SigningKey, Tree, Zone, name, rrsig, signed, usual_tree
from msgspec.structs import replace

from dohproxy.config.settings import Anchor, NegativeAnchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.dnssec.budget import Budget, Cost
from dohproxy.dnssec.chain import Chains
from dohproxy.dnssec.keys import key_tag
from dohproxy.dnssec.trust import NotACut, TrustCache
from dohproxy.dnssec.validate import Limits, Need
from dohproxy.errors import UpstreamFailed
from dohproxy.model import Answer, RRset, Security
from dohproxy.wire import constants as c

ADDRESS = bytes((192, 0, 2, 1))
ROOT_KEY = SigningKey(13, seed=20)


def says(judgement, security, code, words):
    assert judgement.security is security, judgement
    found = judgement.ede[0]
    assert (found.code, words in found.text) == (code, True), judgement.ede


def bogus(judgement, code, words):
    says(judgement, Security.BOGUS, code, words)


def zone_below(key, **options):
    """A root and a zone `test.` below it, whose `www` is asked for."""
    child = Zone("test", key, **options).add("www.test", c.A, ADDRESS)
    return Tree(Zone(".", ROOT_KEY), child)


def on(qname, qtype, change):
    """Change the answer to one question only."""
    place = (name(qname), qtype)
    return lambda question, answer: change(answer) if (question.qname, question.qtype) == place else answer


def edit(rdtype, change):
    """An edit of the RRset of a type, in either section."""

    def section(rrsets):
        made = (change(rrset) if rrset.rdtype == rdtype else rrset for rrset in rrsets)
        return tuple(rrset for rrset in made if rrset is not None)

    return lambda answer: replace(answer, answer=section(answer.answer), authority=section(answer.authority))


def asked(tree):
    return [{(need.qname, need.qtype) for need in needs} for needs in tree.asked]


def test_a_chain_is_told_link_by_link():
    judgement = usual_tree().judge("www.example.com")
    assert judgement.security is Security.SECURE
    assert [link.zone for link in judgement.chain] == [name("."), name("com"), name("example.com")]
    assert [link.note.split()[0] for link in judgement.chain] == ["trust", "DS", "DS"]
    last = judgement.chain[-1]
    assert (last.algorithm, last.key_tag) == (13, int.from_bytes(last.ds.rdatas[0][:2], "big"))
    assert key_tag(last.dnskey.rdatas[0]) == last.key_tag


def test_no_more_is_asked_than_needed_and_it_is_asked_together():
    tree = usual_tree()
    tree.judge("www.example.com")
    example, com, root = name("example.com"), name("com"), name(".")
    assert asked(tree) == [{(root, c.DNSKEY), (example, c.DS), (example, c.DNSKEY)}, {(com, c.DS), (com, c.DNSKEY)}]
    tree.judge("deep.a.b.example.com")
    assert asked(tree) == []
    tree.judge("out.example.com")
    assert asked(tree) == [{(name("insecure.com"), c.DS)}]
    tree.judge("www.below.insecure.com")
    assert asked(tree) == []


def test_the_answer_itself_is_not_asked_for_again():
    tree = usual_tree()
    assert tree.judge("example.com", c.DNSKEY).security is Security.SECURE
    assert (name("example.com"), c.DNSKEY) not in set().union(*asked(tree))


def test_trust_expires_with_its_records():
    tree = usual_tree()
    tree.judge("www.example.com")
    tree.judge("www.example.com", now=TTL - 1.0)
    assert asked(tree) == []
    tree.judge("www.example.com", now=TTL + 1.0)
    assert (name("."), c.DNSKEY) in asked(tree)[0]


def test_trust_is_as_old_as_what_it_was_made_of():
    tree = usual_tree()
    tree.mangle = lambda _, answer: replace(answer, born=answer.born - TTL + 100)
    tree.judge("www.example.com", now=1000.0)
    assert tree.keys.get(name("example.com"), 1000.0).expires == 1100.0
    tree.judge("www.insecure.com")
    assert tree.keys.get(name("insecure.com"), 1000.0).expires == 1100.0


def test_an_answer_without_signatures_is_insecure_only_below_a_proven_cut():
    tree = usual_tree()
    assert tree.judge("www.insecure.com").security is Security.INSECURE
    strip = edit(c.A, lambda rrset: replace(rrset, signatures=()))
    tree.mangle = on("www.example.com", c.A, strip)
    bogus(
        tree.judge("www.example.com"), c.EDE_RRSIGS_MISSING, "www.example.com. A: no RRSIG, but the zone example.com. is signed"
    )


def test_a_stripped_ds_or_denial_is_not_insecurity():
    tree = usual_tree()
    tree.mangle = on("insecure.com", c.DS, lambda answer: replace(answer, authority=()))
    bogus(tree.judge("www.insecure.com"), c.EDE_NSEC_MISSING, "insecure.com. DS: its absence is not proven")
    tree = usual_tree()
    tree.mangle = on("insecure.com", c.DS, edit(c.NSEC, lambda rrset: replace(rrset, signatures=())))
    bogus(tree.judge("www.insecure.com"), c.EDE_RRSIGS_MISSING, "insecure.com. NSEC: there is no RRSIG (zone com.)")
    tree = usual_tree()
    tree.mangle = on("example.com", c.DS, lambda answer: replace(answer, answer=(), authority=()))
    bogus(tree.judge("www.example.com"), c.EDE_NSEC_MISSING, "example.com. DS")


def test_the_childs_nsec_does_not_deny_its_ds():
    """RFC 6840 4.1 the other way round: the apex NSEC of the child says nothing of the parent's side."""
    tree = usual_tree()
    child = tree.zones[name("example.com")]
    fake = Answer(c.NOERROR, (), (child.get(child.origin, c.SOA), child.nsec_about(child.origin)))
    tree.mangle = on("example.com", c.DS, lambda _: fake)
    assert tree.judge("www.example.com").security is Security.BOGUS


def test_a_name_that_signs_and_is_no_zone():
    tree = usual_tree()
    www = tree.zones[name("example.com")].get(name("www.example.com"), c.A)
    fake = signed(www, SigningKey(13, seed=77), name("www.example.com"))
    tree.mangle = on("www.example.com", c.A, edit(c.A, lambda _: fake))
    bogus(tree.judge("www.example.com"), c.EDE_BOGUS, "www.example.com. signs, but is no zone")


@pytest.mark.parametrize("digest", [1, 2, 4])
def test_every_digest_is_computed(digest):
    assert zone_below(SigningKey(13), digests=(digest,)).judge("www.test").security is Security.SECURE


def test_sha1_is_ignored_beside_a_stronger_digest():
    """RFC 4509 3."""
    tree = zone_below(SigningKey(13), digests=(1, 2))
    spoilt = []

    def spoil(rrset):
        rdatas = tuple(rdata if rdata[3] == 1 else rdata[:-1] + bytes([rdata[-1] ^ 1]) for rdata in rrset.rdatas)
        spoilt.append(signed(replace(rrset, rdatas=rdatas), ROOT_KEY, name(".")))
        return spoilt[-1]

    tree.mangle = on("test", c.DS, edit(c.DS, spoil))
    bogus(tree.judge("www.test"), c.EDE_DNSKEY_MISSING, "no DNSKEY of test. matches its DS")


def test_unsupported_algorithms_and_digests_are_insecure():
    """RFC 4035 5.2, RFC 6840 5.2."""
    exotic = zone_below(SigningKey(13), digests=(3,)).judge("www.test")
    says(exotic, Security.INSECURE, c.EDE_UNSUPPORTED_DS_DIGEST, "the DS of test. has the digest GOST")
    unknown = zone_below(SigningKey(200)).judge("www.test")
    says(unknown, Security.INSECURE, c.EDE_UNSUPPORTED_DNSKEY_ALGORITHM, "the zone test. is signed with algorithm 200 only")
    tree = zone_below(SigningKey(5))
    assert tree.judge("www.test").security is Security.SECURE
    tree = zone_below(SigningKey(7))
    tree.limits = Limits(0, 0, 0, sha1=False)
    says(tree.judge("www.test"), Security.INSECURE, c.EDE_UNSUPPORTED_DNSKEY_ALGORITHM, "RSASHA1-NSEC3-SHA1 only")


def test_an_anchor_with_an_unknown_algorithm_makes_its_zone_insecure():
    tree = zone_below(SigningKey(13))
    tree.anchors = [Anchor(name("."), c.DS, struct.pack("!HBB", 1, 200, 2) + bytes(32))]
    says(tree.judge("www.test"), Security.INSECURE, c.EDE_UNSUPPORTED_DNSKEY_ALGORITHM, "the zone . is signed with")


@pytest.mark.parametrize(
    ("key", "code", "words"),
    [
        (SigningKey(13, flags=0x0001), c.EDE_NO_ZONE_KEY_BIT, "which its DS names, is no zone key"),
        (SigningKey(13, protocol=1), c.EDE_DNSKEY_MISSING, "no DNSKEY of test. matches"),
        (SigningKey(13, flags=0x0181), c.EDE_DNSKEY_MISSING, "no DNSKEY of test. matches"),
        (SigningKey(8, bits=1024), None, ""),
    ],
)
def test_keys_that_may_not_be_entered_by(key, code, words):
    judgement = zone_below(key).judge("www.test")
    if code is None:
        assert judgement.security is Security.SECURE
    else:
        bogus(judgement, code, words)


def test_the_ds_must_name_a_key_that_signs_the_keys():
    other = SigningKey(13, seed=31)
    tree = zone_below(SigningKey(13))
    keys = RRset(name("test"), c.DNSKEY, TTL, (SigningKey(13).rdata, other.rdata))
    tree.mangle = on("test", c.DNSKEY, edit(c.DNSKEY, lambda _: signed(keys, other, name("test"))))
    bogus(tree.judge("www.test"), c.EDE_DNSKEY_MISSING, "no RRSIG is by a key that the DS or trust anchor names")
    tree = zone_below(SigningKey(13))
    tree.mangle = on(
        "test", c.DNSKEY, edit(c.DNSKEY, lambda rrset: signed(rrset, SigningKey(13), rrset.owner, expiration=WALL - 9))
    )
    bogus(tree.judge("www.test"), c.EDE_SIGNATURE_EXPIRED, "test. DNSKEY: RRSIG by key")


def test_a_zone_without_its_dnskey():
    tree = zone_below(SigningKey(13))
    tree.mangle = on("test", c.DNSKEY, lambda _: Answer(c.NOERROR))
    judgement = tree.judge("www.test")
    bogus(judgement, c.EDE_DNSKEY_MISSING, "no DNSKEY for the zone test.")
    assert Need(name("test"), c.DNSKEY) in judgement.blame


def test_what_cannot_be_fetched_is_indeterminate():
    tree = zone_below(SigningKey(13))
    tree.mangle = on("test", c.DNSKEY, lambda _: UpstreamFailed("it hung up"))
    judgement = tree.judge("www.test")
    says(judgement, Security.INDETERMINATE, c.EDE_DNSKEY_MISSING, "no DNSKEY for the zone test.")
    assert [ede.code for ede in judgement.ede] == [9, 5, 23]
    assert "test. DNSKEY could not be fetched: it hung up" in judgement.ede[1].text
    tree.mangle = on("test", c.DS, lambda _: Answer(c.SERVFAIL))
    says(tree.judge("www.test", fresh=True), Security.INDETERMINATE, c.EDE_INDETERMINATE, "test. DS could not be fetched")
    tree.mangle = lambda _, answer: answer
    assert tree.judge("www.test").security is Security.SECURE


def test_a_bogus_zone_is_remembered_for_a_moment_unless_looked_at_afresh():
    tree = zone_below(SigningKey(13))
    honest, tree.mangle = tree.mangle, on("test", c.DNSKEY, lambda _: Answer(c.NOERROR))
    tree.judge("www.test")
    tree.mangle = honest
    bogus(tree.judge("www.test"), c.EDE_DNSKEY_MISSING, "no DNSKEY")
    assert asked(tree) == []
    assert tree.judge("www.test", fresh=True).security is Security.SECURE
    tree = zone_below(SigningKey(13))
    tree.mangle = on("test", c.DNSKEY, lambda _: Answer(c.NOERROR))
    tree.judge("www.test")
    tree.mangle = honest
    assert tree.judge("www.test", now=60.0).security is Security.SECURE


# Anchors


def test_without_an_anchor_nothing_is_judged():
    tree = usual_tree()
    tree.anchors = []
    judgement = tree.judge("www.example.com")
    assert (judgement.security, judgement.chain, tree.asked) == (Security.INSECURE, (), [])


def test_a_dnskey_anchor_and_an_anchor_below_an_insecure_zone():
    tree = usual_tree()
    island = tree.zones[name("below.insecure.com")]
    tree.anchors.append(Anchor(island.origin, c.DNSKEY, island.key.rdata))
    judgement = tree.judge("www.below.insecure.com")
    assert (judgement.security, [link.note for link in judgement.chain]) == (Security.SECURE, ["trust anchor"])
    assert tree.judge("www.insecure.com").security is Security.INSECURE


def test_an_anchored_zone_does_not_become_insecure_by_its_parent():
    """An RRSIG whose signer is an insecure zone above the anchor is no way out of it."""
    tree = usual_tree()
    island = tree.zones[name("below.insecure.com")]
    tree.anchors.append(Anchor(island.origin, c.DNSKEY, island.key.rdata))
    www = island.get(name("www.below.insecure.com"), c.A)
    fake = signed(www, SigningKey(13, seed=78), name("insecure.com"))
    tree.mangle = on("www.below.insecure.com", c.A, edit(c.A, lambda _: fake))
    bogus(tree.judge("www.below.insecure.com"), c.EDE_RRSIGS_MISSING, "no RRSIG")


def test_a_negative_anchor_makes_insecure_and_says_so():
    tree = usual_tree()
    tree.negative = [NegativeAnchor(name("example.com"), reason="ticket 12")]
    judgement = tree.judge("www.example.com")
    says(judgement, Security.INSECURE, c.EDE_OTHER, "negative trust anchor example.com.: ticket 12")
    assert tree.asked == []
    assert tree.judge("far.example.com").security is Security.INSECURE
    assert tree.judge("www.other.net").security is Security.SECURE
    assert tree.judge("example.com", c.DS).security is Security.SECURE


# Cost


def test_fetches_are_limited():
    tree = usual_tree()
    tree.budget = Budget({**Budget().limits, Cost.FETCHES: 4})
    judgement = tree.judge("www.example.com")
    says(judgement, Security.INDETERMINATE, c.EDE_OTHER, "validation budget exhausted: fetches")
    assert tree.budget.exhausted is Cost.FETCHES
    assert sum(map(len, tree.asked)) == 3


def test_many_ds_times_many_keys_are_stopped():
    """The HashTrap of KeyTrap: as many DS as DNSKEY records with one tag."""
    keys = [SigningKey(13, seed=seed) for seed in range(40, 60)]
    tree = zone_below(SigningKey(13))
    tag = keys[0].tag

    def many_ds(rrset):
        rdatas = tuple(struct.pack("!HBB", tag, 13, 2) + bytes([n]) * 32 for n in range(50))
        return signed(replace(rrset, rdatas=rdatas), ROOT_KEY, name("."))

    def many_keys(rrset):
        head, key = keys[0].rdata[:4], keys[0].rdata[4:]
        swaps = [key[2 * n : 2 * n + 2] + key[2 : 2 * n] + key[:2] + key[2 * n + 2 :] for n in range(1, 20)]
        return replace(rrset, rdatas=tuple(head + swap for swap in swaps))

    edits = {c.DS: edit(c.DS, many_ds), c.DNSKEY: edit(c.DNSKEY, many_keys)}
    tree.mangle = lambda q, a: edits[q.qtype](a) if q.qname == name("test") and q.qtype in edits else a
    judgement = tree.judge("www.test")
    bogus(judgement, c.EDE_OTHER, "validation budget exhausted: DS digests")
    assert tree.budget.spent[Cost.DIGESTS] == tree.budget.limits[Cost.DIGESTS]
    assert tree.budget.spent[Cost.SIGNATURES] < 5


def test_the_cache_of_trust_is_bounded_and_forgets_the_least_recently_used():
    cache = TrustCache(2)
    for text in ("a", "b", "c"):
        cache.put(name(text), NotACut(name("."), 10.0))
        cache.get(name("a"), 0.0)
    assert (len(cache), cache.get(name("b"), 0.0)) == (2, None)
    assert cache.get(name("a"), 0.0) == NotACut(name("."), 10.0)
    assert cache.get(name("a"), 10.0) is None
    cache.clear()
    assert not len(cache)


def test_a_malformed_key_or_ds_beside_good_ones_harms_nobody():
    tree = zone_below(SigningKey(13))
    keys = RRset(name("test"), c.DNSKEY, TTL, (b"\1", SigningKey(13).rdata))
    tree.mangle = on("test", c.DNSKEY, edit(c.DNSKEY, lambda _: signed(keys, SigningKey(13), name("test"))))
    assert tree.judge("www.test").security is Security.SECURE


def test_a_ds_answer_that_is_an_alias_shows_that_there_is_no_cut():
    tree = usual_tree()
    alias = tree.zones[name("example.com")].get(name("alias.example.com"), c.CNAME)
    tree.mangle = on("alias.example.com", c.DS, lambda _: Answer(c.NOERROR, (alias,)))
    unsigned = Answer(c.NOERROR, (RRset(name("alias.example.com"), c.A, TTL, (ADDRESS,)),))
    bogus(tree.judge("alias.example.com", answer=unsigned), c.EDE_RRSIGS_MISSING, "the zone example.com. is signed")


def test_a_ds_from_a_wildcard_is_none():
    tree = zone_below(SigningKey(13))

    def expand(rrset):
        return replace(rrset, signatures=(rrsig(rrset, ROOT_KEY, name("."), source=name("*")),))

    tree.mangle = on("test", c.DS, edit(c.DS, expand))
    bogus(tree.judge("www.test"), c.EDE_BOGUS, "test. DS: made from a wildcard")


def test_ttl_of_trust_is_at_most_a_day():
    tree = zone_below(SigningKey(13))
    tree.judge("www.test", now=5.0)
    assert tree.keys.get(name("test"), 5.0).expires <= 5.0 + DAY


def test_a_signer_without_any_anchor_is_no_way_out():
    """Only the zone is anchored; an RRSIG by its parent, of which nothing is known, does not make it insecure."""
    tree = usual_tree()
    example = tree.zones[name("example.com")]
    tree.anchors = [Anchor(example.origin, c.DNSKEY, example.key.rdata)]
    assert tree.judge("www.example.com").security is Security.SECURE
    com = tree.zones[name("com")]
    www = example.get(name("www.example.com"), c.A)
    fake = replace(signed(www, com.key, com.origin), signatures=(rrsig(www, com.key, com.origin), b"\0"))
    tree.mangle = on("www.example.com", c.A, edit(c.A, lambda _: fake))
    bogus(tree.judge("www.example.com"), c.EDE_RRSIGS_MISSING, "no RRSIG")


def test_a_parent_with_an_anchor_of_its_own_may_deny_an_anchored_zone():
    tree = usual_tree()
    tree.anchors.append(Anchor(name("no.example.com"), c.DNSKEY, SigningKey(13, seed=66).rdata))
    judgement = tree.judge("www.no.example.com")
    assert (judgement.security, judgement.rcode) == (Security.SECURE, c.NXDOMAIN)


def test_nothing_is_trusted_over_a_name_without_an_anchor():
    tree = usual_tree()
    walk = Chains(tree.world(anchors=AnchorSet([]))).trust_over(name("www.example.com"))
    assert tree.drive(walk).security is Security.INSECURE
