"""What is judged in one step, against the walk: the same judgement at the same price, or none."""

import random

import pytest
from memory_tree import DAY, WALL, SigningKey, Tree, Zone, name, rrsig, signed
from msgspec import Struct
from msgspec.structs import replace

from dohproxy.config.settings import Anchor, NegativeAnchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.dnssec.at_once import at_once
from dohproxy.dnssec.budget import DEFAULT_LIMITS, Budget, Cost
from dohproxy.dnssec.chain import Limits
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import _by_walking, validate
from dohproxy.model import Answer, Question, RRset, Security
from dohproxy.wire import constants as c
from dohproxy.wire import names

ADDRESS = bytes((192, 0, 2, 1))
KEYS = {
    name(origin): SigningKey(13, seed=seed)
    for seed, origin in enumerate((".", "com", "example.com", "plain.com", "sub.example.com", "many.com", "crowd.com"))
}
HOSTS = (
    "www",
    "www",
    "www",
    "no",
    "a.b.c.no",
    "b",
    "x.w",
    "x.y.w",
    "w",
    "*.w",
    "alias",
    "x.old",
    "x.gone",
    "gone",
    "safe",
    "no.safe",
)


class Public(Struct):
    """A key that signs nothing."""

    rdata: bytes


def namesakes(key, count):
    """So many keys of the same tag, of which it is one, the last: words of it change places."""
    found = [Public(key.rdata[:4] + key.rdata[4 + 2 * n : 68] + key.rdata[4 : 4 + 2 * n]) for n in range(1, count)]
    return [*found, key]


def zone(origin, **options):
    made = Zone(origin, KEYS[name(origin)], **options)
    made.add(f"www.{origin}", c.A, ADDRESS).add(f"www.{origin}", c.TXT, b"\1a", b"\1b").add(f"a.b.{origin}", c.A, ADDRESS)
    made.add(f"*.w.{origin}", c.A, ADDRESS).add(f"alias.{origin}", c.CNAME, name(f"www.{origin}"))
    return made.add(f"old.{origin}", c.DNAME, name("plain.com"))


def grown():
    many, crowd = zone("many.com", nsec3=(b"", 0)), zone("crowd.com")
    many.keys, crowd.keys = namesakes(many.key, 6), namesakes(crowd.key, 12)
    zones = [
        Zone(".", KEYS[names.ROOT]),
        Zone("com", KEYS[name("com")], nsec3=(b"", 0), opt_out=True),
        zone("example.com", nsec3=(b"\xab\xcd", 3)),
        zone("plain.com"),
        zone("sub.example.com", nsec3=(b"", 51)),
        Zone("gone.example.com", None),
        Zone("gone.com", None),
        many,
        crowd,
    ]
    tree = Tree(*zones)
    tree.limits = Limits()
    for one in (*zones, *zones):
        tree.judge(names.to_text(one.origin), c.SOA)
    return tree


TREE = grown()
ORIGINS = [*KEYS, *list(KEYS)[2:4], name("gone.com")]
TYPES = (*[c.A] * 9, c.TXT, c.AAAA, c.CNAME, c.DS, c.DS, c.NS, c.SOA, c.DNSKEY, c.DNAME, c.ANY, c.RRSIG, c.NSEC)


def asked(chance):
    origin = names.to_text(chance.choice(ORIGINS)).rstrip(".")
    host = chance.choice((*[""] * 5, *HOSTS))
    return Question(name(".".join(filter(None, (host, origin))) or "."), chance.choice(TYPES))


def flipped(chance, rdata):
    at = chance.randrange(len(rdata))
    return rdata[:at] + bytes((rdata[at] ^ 1 << chance.randrange(8),)) + rdata[at + 1 :]


def signed_anew(chance, rrset):
    """With dates, an original TTL, a tag or a number of labels of its own, by a zone at or above it; perhaps twice."""
    above = [zone for zone in KEYS if names.is_subdomain(rrset.owner, zone)]
    fields = {
        "inception": WALL + chance.choice((-10 * DAY, -1, 0, 1, 1000, DAY, 3 * DAY)),
        "expiration": WALL + chance.choice((10 * DAY, 100, 0, -1, -1000, -3 * DAY)),
        "original_ttl": chance.choice((0, 60, 3600)),
    }
    zone = chance.choice(above)
    source = None
    if chance.random() < 0.2 and rrset.owner != zone:
        source = b"\1*" + names.parent(rrset.owner)
    good = rrsig(rrset, KEYS[zone], zone, source=source, **fields)
    extra = (rrset.signatures, (), ())[chance.randrange(3)]
    return replace(rrset, signatures=(*extra, good) if chance.random() < 0.5 else (good, *extra))


def changed(chance, rrset):
    kind = chance.randrange(7)
    if kind == 0:
        return replace(rrset, signatures=())
    if kind == 1 and rrset.signatures:
        return replace(rrset, signatures=tuple(flipped(chance, rdata) for rdata in rrset.signatures))
    if kind == 2:
        return replace(rrset, rdatas=tuple(flipped(chance, rdata) for rdata in rrset.rdatas))
    if kind == 3:
        return replace(rrset, ttl=chance.choice((0, 1, 10**6)))
    if kind == 4:
        return replace(rrset, owner=asked(chance).qname)
    return signed_anew(chance, rrset)


def section_mutated(chance, section, foreign):
    out = list(section)
    for _ in range(chance.choice((1, 1, 2))):
        kind = chance.randrange(6)
        if kind == 0:
            out.insert(chance.randrange(len(out) + 1), chance.choice(foreign))
        elif kind == 1:
            chance.shuffle(out)
        elif kind == 2 and out:
            del out[chance.randrange(len(out))]
        elif out:
            at = chance.randrange(len(out))
            out[at] = changed(chance, out[at])
    return tuple(out)


def signed_by_another(chance, question, answer):
    """The answer with one zone's word for everything."""
    zones = [zone for zone in KEYS if names.is_subdomain(question.qname, zone)]
    zone = max(zones, key=len) if chance.random() < 0.5 else chance.choice(zones)
    sections = ([signed(rrset, KEYS[zone], zone) for rrset in section] for section in (answer.answer, answer.authority))
    return Answer(answer.rcode, *map(tuple, sections))


def spoilt(chance, question, answer):
    """The answer as it is, or not quite."""
    other = TREE.answer(asked(chance))
    zone = TREE.zone_of(question.qname, question.qtype)
    soa = zone.data[zone.origin, c.SOA]
    foreign = [*other.answer, *other.authority, RRset(question.qname, c.A, 60, (ADDRESS,)), *zone.data.values()]
    if zone.key:
        foreign += [signed(replace(one, owner=question.qname), zone.key, zone.origin) for one in (soa, replace(soa, ttl=7))]
    kind = chance.randrange(14)
    if kind == 13:
        return signed_by_another(chance, question, answer)
    if kind > 4:
        return answer
    if kind == 0:
        return replace(answer, rcode=chance.choice((c.NOERROR, c.NXDOMAIN, c.NXDOMAIN, c.YXDOMAIN, 2)))
    if kind == 1:
        return replace(other, rcode=chance.choice((answer.rcode, other.rcode)))
    if kind < 4 and answer.answer:
        return replace(answer, answer=section_mutated(chance, answer.answer, foreign))
    return replace(answer, authority=section_mutated(chance, answer.authority, foreign))


def worlds(chance):
    """What makes equal worlds, as often as wanted."""
    top = TREE.anchors
    anchors, negative = list(top), []
    if chance.random() < 0.1:
        anchors = chance.choice(([], [Anchor(name("example.com"), c.DS, KEYS[name("example.com")].ds(name("example.com")))]))
    if chance.random() < 0.1:
        until = chance.choice((None, WALL - 1, WALL + 1))
        negative = [NegativeAnchor(chance.choice((*ORIGINS, name("www.example.com"), name("no.plain.com"))), until, "why")]
    entries = dict(TREE.keys._entries) if chance.random() < 0.9 else {}
    limits = dict(DEFAULT_LIMITS)
    if chance.random() < 0.1:
        limits |= {chance.choice((Cost.SIGNATURES, Cost.HASHES, Cost.FAILURES)): chance.randrange(5)}
    options = {
        "anchors": AnchorSet(anchors, negative),
        "now": chance.choice((*[0.0] * 9, 10.0, 3300.0, 4000.0)),
        "fresh": chance.random() < 0.2,
        "renewing": chance.random() < 0.2,
        "limits": Limits(chance.choice((50, 50, 50, 50, 2, 0)), *chance.choice(((0, 0), (3600, 86400)))),
    }

    def world():
        keys = TrustCache()
        keys._entries |= entries
        return TREE.world(keys=keys, budget=Budget(limits), **options)

    return world


def driven(judging):
    """The outcome, and how many rounds of questions it took."""
    TREE.asked = []
    return TREE.drive(judging), len(TREE.asked)


def compare(seed, rounds):
    """How many were judged in one step: with data, without by NSEC3 and by NSEC; those of them insecure; all others."""
    chance, seen = random.Random(seed), [0, 0, 0, 0, 0]
    for _ in range(rounds):
        question = asked(chance)
        answer = spoilt(chance, question, TREE.answer(question))
        made = worlds(chance)
        world, slowly = made(), made()
        walked, questions = driven(_by_walking(question, answer, slowly))
        quick = at_once(question, answer, world)
        if quick is not None:
            assert (quick, questions) == (walked, 0), (question, answer, world)
            assert world.budget.spent == slowly.budget.spent, (question, answer, world)
            kinds = {rrset.rdtype for rrset in quick.authority}
            seen[0 if quick.answer else 1 if c.NSEC3 in kinds else 2] += 1
            seen[3] += quick.security is Security.INSECURE
        else:
            seen[4] += 1
        if question.qtype != c.RRSIG and world.budget.limits == DEFAULT_LIMITS:
            assert driven(validate(question, answer, made()))[0] == walked, (question, answer, world)
    return seen


@pytest.mark.parametrize("seed", range(4))
def test_one_step_judges_as_the_walk_does(seed):
    rounds = 3000
    data, hashed, plain, insecure, others = compare(seed, rounds)
    assert min(data, hashed, plain) > rounds / 50
    assert insecure > rounds / 500
    assert others > rounds / 4
