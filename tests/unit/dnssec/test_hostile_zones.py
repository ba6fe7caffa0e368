"""Zones made to cost a validator minutes (KeyTrap, CVE-2023-50387; NSEC3, CVE-2023-50868), and what they cost this one.

Each is played through the whole validator, as its upstream would tell it. What is asserted are counts, not times.
"""

import hashlib
import struct

import pytest
from memory_tree import TTL, SigningKey, Tree, Zone, bitmap, name, signed
from msgspec.structs import replace

from dohproxy.dnssec.budget import DEFAULT_LIMITS, Budget, Cost
from dohproxy.dnssec.validate import Limits
from dohproxy.model import Answer, Question, RRset, Security
from dohproxy.wire import constants as c

KSK, ZSK = SigningKey(13, seed=70), SigningKey(8, flags=256, seed=71)
ADDRESS = bytes((192, 0, 2, 1))
SIGNATURES = 40
"""Of each RRset: as many as fit into one message, about."""


def colliding(count):
    """Keys that are none of the zone's, but have the tag of its ZSK: the modulus with two of its words exchanged."""
    rdata, found = ZSK.rdata, []
    for at in range(10, 10 + 2 * count, 2):
        swapped = rdata[:8] + rdata[at : at + 2] + rdata[10:at] + rdata[8:10] + rdata[at + 2 :]
        found.append(swapped)
    assert len({_tag(key) for key in (*found, rdata)}) == 1
    return found


def _tag(rdata):
    total = sum(rdata[1::2]) + (sum(rdata[0::2]) << 8)
    return total + (total >> 16) & 0xFFFF


def forgeries(good, count):
    """Signatures that differ from the good one in their last octets."""
    return tuple(good[:-2] + struct.pack("!H", number) for number in range(count))


def zone(keys, signatures, *, good=True):
    """A zone with a KSK, a ZSK and other keys of its tag, each RRset with forged signatures before the good one."""
    made = Zone("trap", KSK).add("www.trap", c.A, ADDRESS).add("*.wild.trap", c.A, ADDRESS).add("m.trap", c.TXT, b"\1x")
    made.keys = [KSK, ZSK]
    tree = Tree(Zone(".", SigningKey(13, seed=72)), made)
    dnskey = made.data[made.origin, c.DNSKEY]
    rdatas = (KSK.rdata, *colliding(keys), ZSK.rdata)
    made.data[made.origin, c.DNSKEY] = signed(replace(dnskey, rdatas=rdatas), KSK, made.origin)
    for place, rrset in made.data.items():
        if place[1] != c.DNSKEY:
            best = signed(rrset, ZSK, made.origin).signatures[0]
            made.data[place] = replace(rrset, signatures=(*forgeries(best, signatures), *((best,) if good else ())))
    return tree


def fails(judgement, cost):
    assert judgement.security is Security.BOGUS
    assert (judgement.ede[0].code, judgement.ede[0].text) == (c.EDE_OTHER, f"validation budget exhausted: {cost.value}")


def test_many_signatures_by_one_key():
    """SigJam: as many tries as failures are allowed, and one for the DS and the DNSKEY RRsets each, and the root's."""
    tree = zone(0, SIGNATURES)
    fails(tree.judge("www.trap"), Cost.FAILURES)
    assert tree.budget.spent[Cost.FAILURES] == DEFAULT_LIMITS[Cost.FAILURES]
    assert tree.budget.spent[Cost.SIGNATURES] == DEFAULT_LIMITS[Cost.FAILURES] + 4


def test_one_signature_by_many_keys():
    """LockCram."""
    tree = zone(50, 1, good=False)
    fails(tree.judge("www.trap"), Cost.COLLISIONS)
    assert tree.budget.spent[Cost.COLLISIONS] == DEFAULT_LIMITS[Cost.COLLISIONS]
    assert tree.budget.spent[Cost.SIGNATURES] == DEFAULT_LIMITS[Cost.COLLISIONS] + 1 + 3


@pytest.mark.parametrize("qname", ["www.trap", "no.trap", "x.wild.trap", "m.trap"])
def test_many_signatures_by_many_keys(qname):
    """KeySigTrap: the product of both costs no more than each, whatever is asked, and however often with warm trust."""
    tree = zone(50, SIGNATURES)
    for _ in range(2):
        assert tree.judge(qname).security is Security.BOGUS
        assert tree.budget.spent[Cost.SIGNATURES] <= DEFAULT_LIMITS[Cost.FAILURES] + 4
        assert tree.budget.exhausted in (Cost.COLLISIONS, Cost.FAILURES)


def test_a_pair_of_keys_that_collide_and_a_few_old_signatures_are_no_attack():
    tree = zone(1, 2)
    assert tree.judge("www.trap").security is Security.SECURE
    assert (tree.budget.spent[Cost.COLLISIONS], tree.budget.spent[Cost.FAILURES]) == (3, 5)


@pytest.mark.parametrize(("qname", "costs"), [("www.trap", 3), ("x.wild.trap", 6)])
def test_keys_that_collide_cost_no_more_once_they_are_trusted(qname, costs):
    """What one step leaves to the walk it has not paid for."""
    tree = zone(3, 0)
    for _ in range(2):
        assert tree.judge(qname).security is Security.SECURE
        assert tree.budget.spent[Cost.COLLISIONS] == costs


def test_a_budget_that_runs_out_raises_nothing_once_the_keys_are_trusted():
    tree = zone(50, 1, good=False)
    for _ in range(2):
        fails(tree.judge("www.trap"), Cost.COLLISIONS)
    for cost in (Cost.SIGNATURES, Cost.FAILURES):
        tree = zone(0, 1, good=False)
        tree.judge("www.trap")
        tree.budget = Budget(DEFAULT_LIMITS | {cost: 0})
        fails(tree.judge("www.trap"), cost)


def test_many_denial_records_with_forged_signatures():
    """The tries are those of the question, not of each RRset."""
    tree = zone(0, 0)
    denial = tree.answer(Question(name("no.trap"), c.A))
    records = []
    for number in range(100):
        record = RRset(name(f"n{number}.trap"), c.NSEC, TTL, (name("o.trap") + bitmap([c.A]),))
        records.append(replace(record, signatures=forgeries(signed(record, ZSK, name("trap")).signatures[0], 1)))
    judgement = tree.judge("no.trap", answer=replace(denial, authority=(*records, *denial.authority)))
    fails(judgement, Cost.FAILURES)
    assert tree.budget.spent[Cost.SIGNATURES] <= DEFAULT_LIMITS[Cost.FAILURES] + 4


def test_many_records_of_any_type_are_stopped_too():
    """Good signatures are limited as well."""
    tree = zone(0, 0)
    records = [signed(RRset(name("www.trap"), 1000 + n, TTL, (b"x",)), ZSK, name("trap")) for n in range(300)]
    fails(tree.judge("www.trap", c.ANY, Answer(c.NOERROR, tuple(records))), Cost.SIGNATURES)
    assert tree.budget.spent[Cost.SIGNATURES] == DEFAULT_LIMITS[Cost.SIGNATURES]


def hashed(digest, after, iterations, salt, types=(c.A,)):
    rdata = struct.pack("!BBHB", 1, 0, iterations, len(salt)) + salt + b"\x14" + after + bitmap(types)
    label = "".join("0123456789abcdefghijklmnopqrstuv"[(int.from_bytes(digest) >> shift) & 31] for shift in range(155, -1, -5))
    return signed(RRset(name(f"{label}.trap"), c.NSEC3, TTL, (rdata,)), ZSK, name("trap"))


@pytest.mark.parametrize("sets", [1, 4, 20])
def test_long_names_and_many_parameters_of_nsec3(sets):
    """CVE-2023-50868: hashes are counted over all sets of parameters; each is one name with its iterations."""
    tree, limit = zone(0, 0), 50
    tree.limits = Limits(limit, 0, 0)
    soa = tree.zones[name("trap")].get(name("trap"), c.SOA)
    records = [hashed(hashlib.sha1(b"%d" % n).digest(), bytes(20), limit, b"%d" % n) for n in range(sets)]
    judgement = tree.judge("a." * 120 + "trap", answer=Answer(c.NXDOMAIN, (), (soa, *records)))
    assert judgement.security is Security.BOGUS
    assert judgement.ede[0].text.startswith("validation budget exhausted: NSEC3 hashes") == (sets > 1)
    assert tree.budget.spent[Cost.HASHES] <= min(sets, 4) * 122
    assert tree.budget.spent[Cost.HASHES] <= DEFAULT_LIMITS[Cost.HASHES]
    assert (tree.budget.exhausted is Cost.HASHES) == (sets > 1)


def test_no_name_is_hashed_twice_for_one_question():
    tree = zone(0, 0)
    soa = tree.zones[name("trap")].get(name("trap"), c.SOA)
    record = hashed(bytes(20), bytes(19) + b"\1", 10, b"")
    for rcode in (c.NXDOMAIN, c.NOERROR):
        tree.judge("a.b.c.d.trap", answer=Answer(rcode, (), (soa, record)))
        assert tree.budget.spent[Cost.HASHES] <= 5


def test_an_alias_without_end():
    made = Zone("trap", ZSK)
    for number in range(40):
        made.add(f"n{number}.trap", c.CNAME, name(f"n{number + 1}.trap"))
    tree = Tree(made)
    whole = Answer(c.NOERROR, tuple(made.data[name(f"n{n}.trap"), c.CNAME] for n in range(40)))
    fails(tree.judge("n0.trap", answer=whole), Cost.ALIASES)
    assert tree.budget.spent[Cost.ALIASES] == DEFAULT_LIMITS[Cost.ALIASES]


def test_a_name_of_many_labels_costs_a_bounded_number_of_questions():
    """Where each of them exists, as an empty non-terminal, any may be a zone cut."""
    deep = "a." * 120 + "trap"
    tree = Tree(Zone("trap", ZSK).add(deep, c.A, ADDRESS))
    judgement = tree.judge(deep, answer=Answer(c.NOERROR, (RRset(name(deep), c.A, TTL, (ADDRESS,)),)))
    assert (judgement.security, tree.budget.exhausted) == (Security.INDETERMINATE, Cost.FETCHES)
    assert tree.budget.spent[Cost.FETCHES] == DEFAULT_LIMITS[Cost.FETCHES]


def test_nothing_is_asked_below_a_name_that_does_not_exist():
    """RFC 8020 2: the first label without a name settles that there is no zone cut below it."""
    tree = zone(0, 0)
    deep = "a." * 120 + "trap"
    judgement = tree.judge(deep, answer=Answer(c.NOERROR, (RRset(name(deep), c.A, TTL, (ADDRESS,)),)))
    assert (judgement.security, judgement.ede[0].code) == (Security.BOGUS, c.EDE_RRSIGS_MISSING)
    assert sum(tree.asked, ())[-1].qname == name("a.trap")
    assert tree.budget.spent[Cost.FETCHES] == 4


def test_the_whole_budget_is_less_than_a_tenth_of_a_second_of_any_of_its_parts():
    """So that nobody raises a limit without a thought: 128 signatures, 256 hashes of 50 iterations, 64 digests."""
    limits = Budget().limits
    assert limits[Cost.SIGNATURES] <= 128
    assert limits[Cost.HASHES] * (Limits().nsec3_max_iterations + 1) <= 20_000
    assert limits[Cost.DIGESTS] <= 64
