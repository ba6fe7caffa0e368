"""The compiled part of `dnssec` against its twins in Python: the same, or no answer."""

import random
import struct

import pytest
from msgspec.structs import replace

from dohproxy.dnssec import bitmap, denial, pure
from dohproxy.dnssec.budget import DEFAULT_LIMITS, Budget, Cost
from dohproxy.dnssec.keys import Claim, Key, KeyRing
from dohproxy.dnssec.nsec3 import hash_name
from dohproxy.dnssec.signatures import Dates, claim_of
from dohproxy.errors import BudgetExhausted
from dohproxy.model import RRset
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text, label_count, parent, suffixes, wildcard_of

compiled = pytest.importorskip("dohproxy.dnssec._compiled")

WALL = 1_800_000_000
SPAN = 1 << 32
LONG = b"\x3f" + b"x" * 63
NAMES = [
    *map(from_text, ("example.com", "www.example.com", "*.example.com", "a.b.c.example.com", "*.b.example.com", "com", ".")),
    *map(from_text, ("ample.com", "x.*.example.com", "*", "*a.example.com", "example.net", "1.example.com")),
    LONG * 3 + b"\x3d" + b"y" * 61 + b"\0",
    LONG + b"\7example\3com\0",
    b"\x0dx\7example\3com\0",  # not below example.com, though it ends alike
]
UPPER = b"\3MaIl\7EXAMPLE\3com\0"


def cased(chance):
    """A name, in whatever case."""
    name = chance.choice(NAMES)
    return bytes(octet ^ 0x20 if chr(octet).isalpha() and chance.random() < 0.3 else octet for octet in name)


MADE = {
    c.A: lambda chance: chance.randbytes(4),
    c.AAAA: lambda chance: chance.randbytes(16),
    c.TXT: lambda chance: b"\3abC" * chance.randrange(1, 9),
    c.NS: cased,
    c.CNAME: cased,
    c.PTR: cased,
    c.DNAME: cased,
    c.SOA: lambda chance: cased(chance) + cased(chance) + chance.randbytes(20),
    c.MX: lambda chance: b"AZ" + cased(chance),
    c.SRV: lambda chance: b"AAAAAA" + cased(chance),
    c.DS: lambda chance: chance.randbytes(36),
    c.DNSKEY: lambda chance: b"\1\1\3\15" + chance.randbytes(64),
    c.NSEC: lambda chance: UPPER + chance.choice((b"\0\1\x40", b"")),
    c.NSEC3: lambda chance: b"\1\0\0\0\0\x14" + chance.randbytes(20) + b"\0\1\x40",
    c.TLSA: lambda chance: b"\3\1\1" + chance.randbytes(32),
    65280: lambda chance: chance.randbytes(7),
}
"""RDATA of the types that the compiled ones know."""
OTHERS = {
    c.NAPTR: lambda chance: b"\0\1\0\1\1U\1A\0" + cased(chance),
    c.MINFO: lambda chance: cased(chance) + cased(chance),
    c.A6: lambda chance: b"\0" + chance.randbytes(16),
    17: lambda chance: cased(chance) + cased(chance),
    18: lambda chance: b"\0\1" + cased(chance),
    26: lambda chance: b"\0\1" + cased(chance) + cased(chance),
    36: lambda chance: b"\0\1" + cased(chance),
}
"""And of those that they leave to Python."""
KEY = Key(b"\1\1\3\15" + bytes(64))
TWIN = Key(b"\1\1\3\15" + bytes(62) + b"\1\0")
RINGS = (KeyRing((KEY,)), KeyRing((KEY, Key(b"\1\0\3\10" + bytes(70)))), KeyRing((KEY, KEY)), KeyRing(()))
FLAWS = ("signer", "covered", "labels", "dates", "cut", "octets", "tag", "rdata", "ring", "outside", "large")


def octets_mutated(chance, octets):
    """These, less well; here and there they are cut, or made longer."""
    out = bytearray(octets)
    for _ in range(chance.choice((1, 1, 2))):
        at = chance.randrange(len(out) + 1)
        kind = chance.randrange(4)
        if kind == 0 and at < len(out):
            out[at] = chance.choice((0, 1, 3, 7, 42, 63, 64, 65, 90, 192, 255))
        elif kind == 1:
            del out[at:]
        elif kind == 2 and at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        else:
            out[at:at] = chance.choice((b"\0", b"\1*", b"\x3f", LONG * 4, chance.randbytes(3)))
    return bytes(out)


def rrset_of(chance, kinds):
    """Records of a name in or below example.com, some of them twice."""
    rdtype = chance.choice(list(kinds))
    rdatas = [kinds[rdtype](chance) for _ in range(chance.choice((1, 1, 1, 2, 3, 9)))]
    if chance.random() < 0.2:
        rdatas += [chance.choice((bytes.lower, bytes))(rdatas[0])]
    owner = chance.choice([name for name in NAMES if pure.is_subdomain(name, NAMES[0])])
    return RRset(owner, rdtype, chance.choice((0, 1, 300, 0x7FFFFFFF)), tuple(rdatas), (), chance.choice((1, 1, 1, 3, 258)))


def rrsig_of(chance, rrset, zone):
    """The RDATA of a signature without flaw, of the RRset as it is or from a wildcard above it."""
    wildcard = rrset.owner.startswith(b"\1*") and len(rrset.owner) > 2
    most = label_count(rrset.owner) - wildcard
    labels = most if chance.random() < 0.7 else chance.randrange(min(label_count(zone), most), most + 1)
    inception = WALL - chance.choice((0, 1, 86400, (1 << 31) - 1))
    expiration = WALL + chance.choice((0, 1, 86400, (1 << 31) - 1))
    if expiration - inception >= 1 << 31:
        inception = WALL
    ttl = chance.choice((0, 300, 0x7FFFFFFF, 0xFFFFFFFF))
    head = struct.pack("!HBBIII", rrset.rdtype, 13, labels, ttl, expiration % SPAN, inception % SPAN)
    signer = zone.upper() if chance.random() < 0.1 else zone
    return head + KEY.tag.to_bytes(2) + signer + chance.randbytes(chance.choice((0, 64)))


def of_another_kind(chance, flaw, rrset, rrsig, zone):
    """The signature with a flaw in this part, or what may be one."""
    if flaw == "signer":
        return rrsig[:18] + chance.choice(NAMES) + rrsig[18 + len(zone) :]
    if flaw == "covered":
        return chance.choice((b"\0\0", b"\0\x2e", rrset.rdtype.to_bytes(2)[::-1])) + rrsig[2:]
    if flaw == "labels":
        return rrsig[:3] + bytes((chance.choice((0, 1, label_count(rrset.owner) + 1, 255)),)) + rrsig[4:]
    if flaw == "dates":
        edges = (0, 1, -1, 3600, -3600, 3601, -3601, 86400, -86400, 1 << 31, (1 << 31) - 1, 1 - (1 << 31), 777)
        dates = struct.pack("!II", *((WALL + chance.choice(edges) + chance.choice((0, 0, 1))) % SPAN for _ in range(2)))
        return rrsig[:8] + dates + rrsig[16:]
    if flaw == "tag":
        return rrsig[:16] + chance.choice((b"\0\0", TWIN.tag.to_bytes(2))) + rrsig[18:]
    return rrsig[: chance.randrange(len(rrsig))] if flaw == "cut" else octets_mutated(chance, rrsig)


def flawed(chance, flaw, rrset, rrsig, zone):
    """Records, signature and ring with this flaw, or with what may be one."""
    ring = RINGS[0]
    if flaw == "rdata":
        rrset = replace(rrset, rdatas=tuple(octets_mutated(chance, rdata) for rdata in rrset.rdatas))
    elif flaw == "ring":
        ring = chance.choice((*RINGS, KeyRing((TWIN,))))
    elif flaw == "outside":
        rrset = replace(rrset, owner=chance.choice(NAMES))
    elif flaw == "large":
        rrset = replace(rrset, rdatas=(*rrset.rdatas, *(bytes(1000) + chance.randbytes(4) for _ in range(chance.randrange(6)))))
    else:
        rrsig = of_another_kind(chance, flaw, rrset, rrsig, zone)
    return rrset, rrsig, ring


def compare_names(chance):
    name, other = chance.choice(NAMES), chance.choice(NAMES)
    if chance.random() < 0.5:
        other = chance.choice(list(suffixes(name)))
    assert compiled.is_subdomain(name, other) == pure.is_subdomain(name, other), (name, other)
    assert compiled.label_count(name) == pure.label_count(name), name


def compare_signers(chance):
    """Of good and of spoilt signatures."""
    rrsets = []
    for _ in range(chance.randrange(4)):
        rrset = rrset_of(chance, MADE)
        rdatas = [rrsig_of(chance, rrset, cased(chance)) for _ in range(chance.randrange(3))]
        rdatas = [octets_mutated(chance, rdata) if chance.random() < 0.3 else rdata for rdata in rdatas]
        rrsets.append(replace(rrset, signatures=tuple(rdatas)))
        for rdata in rdatas:
            assert compiled.signer_in(rdata) == pure.signer_in(rdata), rdata
    base = chance.choice(NAMES)
    assert compiled.signer_above(tuple(rrsets), base) == pure.signer_above(tuple(rrsets), base), (rrsets, base)


def compare_claims(chance, seen):
    """`seen` counts signatures: those without flaw of known types, all others, and the claims made of these."""
    known = chance.random() < 0.8
    zone = chance.choice((NAMES[0], NAMES[0], NAMES[5], NAMES[6]))
    rrset = rrset_of(chance, MADE if known else OTHERS)
    rrsig, ring, flaw = rrsig_of(chance, rrset, zone), chance.choice(RINGS[:3]), None
    if chance.random() < 0.7:
        flaw = chance.choice(FLAWS)
        rrset, rrsig, ring = flawed(chance, flaw, rrset, rrsig, zone)
    if flaw is None:
        zone = pure.signer_in(rrsig)
    dates = Dates(WALL) if chance.random() < 0.5 else Dates(WALL, 0, 0)
    quick, slow = compiled.plain_claim(rrset, rrsig, zone, ring, WALL), claim_of(rrset, rrsig, zone, ring, dates)
    plain = flaw is None and known
    assert quick == slow if quick is not None else not plain, (rrset, rrsig, zone, flaw)
    seen[0 if plain else 1] += 1
    if not plain and isinstance(slow, Claim):
        seen[2] += 1
    if not plain and quick is not None:
        seen[3] += 1


APEXES = (from_text("example.com"), from_text("com"), from_text("."), from_text("deep.in.the.example.com"))
INSIDE = ("", "www", "b", "a.b", "delegated", "aliased", "*.wild", "wild", "more", "some", "other")
ASKED = (*INSIDE, "no", "no.such.name", "x.delegated", "x.aliased", "x.wild", "y.x.wild", "x.a.b", "q", "*", "*.no", "." * 0)
TYPES = {"delegated": (c.NS,), "aliased": (c.DNAME,), "": (c.NS, c.SOA, c.DNSKEY), "b": ()}


def under(apex, host):
    return b"".join(bytes((len(label),)) + label.encode() for label in host.split(".") if label) + apex


def in_base32(digest):
    value = int.from_bytes(digest)
    return bytes(b"0123456789abcdefghijklmnopqrstuv"[value >> 5 * (31 - n) & 31] for n in range(32))


class Hashed:
    """The NSEC3 chain of a small zone, with this apex."""

    def __init__(self, chance, apex):
        self.apex, self.salt = apex, chance.choice((b"", b"", b"\xab\xcd"))
        self.iterations, self.opt_out = chance.choice((0, 0, 1, 7)), chance.random() < 0.3
        found = sorted((self.hash(under(apex, host)), host) for host in INSIDE if chance.random() < 0.9 or host in ("", "b"))
        after = [digest for digest, _ in found[1:] + found[:1]]
        self.records = {
            host: (digest, self.record(digest, high, TYPES.get(host, (c.A, c.RRSIG))))
            for (digest, host), high in zip(found, after, strict=True)
        }

    def hash(self, name):
        return hash_name(name, self.salt, self.iterations)

    def record(self, digest, high, types):
        """One of the chain, as if it were signed."""
        head = struct.pack("!BBHB", 1, self.opt_out, self.iterations, len(self.salt)) + self.salt
        rdata = head + bytes((len(high),)) + high + bitmap.build(types)
        signature = struct.pack("!HBBIIIH", c.NSEC3, 13, label_count(self.apex) + 1, 60, 9, 1, 7) + self.apex + b"signed"
        return RRset(b"\x20" + in_base32(digest) + self.apex, c.NSEC3, 60, (rdata,), (signature,))

    def near(self, name):
        """The record that matches the name, or covers it."""
        digest, spans = self.hash(name), sorted(self.records.values(), key=lambda span: span[0])
        return next((record for low, record in reversed(spans) if low <= digest), spans[-1][1])

    def proofs(self, name):
        """Those of a closest encloser proof, and the wildcard's."""
        digests = {digest for digest, _ in self.records.values()}
        path = [name, *(above for above in suffixes(name) if above != name and pure.is_subdomain(above, self.apex))]
        at = next((at for at, above in enumerate(path) if self.hash(above) in digests), len(path) - 1)
        return [self.near(path[at]), self.near(path[max(at - 1, 0)]), self.near(wildcard_of(path[at]))]


ZONES = [Hashed(random.Random(seed), apex) for seed in range(9) for apex in APEXES]
SPOILT = ("octets", "types", "flags", "next", "owner", "upper", "signature", "unsigned", "twice", "nsec", "ttl", "other")

BITMAPS = (
    b"\0\0",  # an empty window
    b"\0\x21" + bytes(33),  # a window too long
    b"\0\1\x40\0\1\x40",  # a window twice
    b"\1\1\x20",  # what would be NS in another window
    b"\1\5\0\0\0\0\1",  # and DNAME
    b"\0\1\x40\1\2\0\1",  # and one beyond its window
)


def rdata_spoilt(chance, kind, rdata, at):
    """The RDATA of an NSEC3 record whose hash begins after `at`, in another way than its zone has it."""
    if kind == "types":
        types = chance.choice(((), (c.NS,), (c.NS, c.SOA), (c.DNAME,), (128,), (c.NS, 999), (128, c.RRSIG), (c.A, 128), (999,)))
        return rdata[: at + 21] + chance.choice((bitmap.build(types), chance.choice(BITMAPS)))
    if kind == "flags":
        place = chance.choice((0, 1, 1, 1, 2, 3, 4, at))
        return rdata[:place] + bytes((chance.choice((0, 1, 1, 2, 255)),)) + rdata[place + 1 :]
    if kind == "next":
        high = chance.choice((rdata[at + 1 : at + 21], bytes(20), b"\xff" * 20, chance.randbytes(20)))
        return rdata[: at + 1] + high + rdata[at + 21 :]
    return octets_mutated(chance, rdata)


def owner_spoilt(chance, kind, zone, owner):
    """An owner that is another one's, or nobody's."""
    if kind == "upper":
        beyond = bytes((33 + zone.apex[0],)) + owner[1:] if zone.apex[0] else owner  # its first label ends within the apex
        return chance.choice((owner.upper(), owner.replace(b"0", b"w"), zone.apex, beyond, owner.replace(b"com", b"net")))
    digest = chance.choice((chance.randbytes(20), bytes(20), b"\xff" * 20, zone.hash(under(zone.apex, chance.choice(ASKED)))))
    return b"\x20" + in_base32(digest) + chance.choice((zone.apex, zone.apex, *APEXES))


def spoilt(chance, zone, rrset):
    """The record, in another way than its zone has it."""
    kind, rdata, signature = chance.choice(SPOILT), rrset.rdatas[0], rrset.signatures[0]
    if kind in ("owner", "upper"):
        return replace(rrset, owner=owner_spoilt(chance, kind, zone, rrset.owner))
    if kind == "other":
        return chance.choice(ZONES).near(zone.apex)
    changes = {
        "signature": {"signatures": (octets_mutated(chance, signature), signature)},
        "unsigned": {"signatures": ()},
        "twice": {"rdatas": chance.choice(((rdata, rdata_spoilt(chance, "next", rdata, 5 + len(zone.salt))), ()))},
        "nsec": {"rdtype": c.NSEC},
        "ttl": {"ttl": 7},
    }
    return replace(rrset, **changes.get(kind, {"rdatas": (rdata_spoilt(chance, kind, rdata, 5 + len(zone.salt)),)}))


def outcome(prove, *args):
    try:
        return prove(*args)
    except BudgetExhausted as error:
        return str(error)


def denied_in_python(qname, proofs, zone, most, budget):
    """What `denial.prove_nonexistence` makes of it without its quick way."""
    quick, denial.plain_nxdomain = denial.plain_nxdomain, lambda *_: None
    try:
        return denial.prove_nonexistence(qname, c.A, proofs, zone, max_iterations=most, budget=budget)
    finally:
        denial.plain_nxdomain = quick


def compare_denials(chance, seen):
    """`seen` counts names that are denied: by good records that are plain, and by others; and of these the plain."""
    zone = chance.choice(ZONES)
    qname = under(zone.apex, chance.choice(ASKED)) if chance.random() < 0.95 else chance.choice(NAMES)
    proofs = zone.proofs(qname) if pure.is_subdomain(qname, zone.apex) else [zone.near(zone.apex)]
    proofs += [zone.near(parent(qname)) for _ in range(chance.choice((0, 0, 0, 1, 9)))]  # some are there twice
    good = chance.random() < 0.5
    if good:
        proofs = list(dict.fromkeys(proofs))
    elif chance.random() < 0.2:
        types, digest = chance.choice(((128, c.RRSIG), (c.A,))), zone.hash(qname)
        opted = [replace(one, rdatas=(one.rdatas[0][:1] + b"\1" + one.rdatas[0][2:],)) for one in proofs]
        proofs = chance.choice((proofs + opted, [*proofs, zone.record(digest, chance.choice((digest, bytes(20))), types)]))
    elif chance.random() < 0.3:
        del proofs[chance.randrange(len(proofs))]
    else:
        for _ in range(chance.choice((1, 1, 2))):
            at = chance.randrange(len(proofs))
            if len(proofs[at].rdatas) == len(proofs[at].signatures) == 1:
                proofs[at] = spoilt(chance, zone, proofs[at])
    chance.shuffle(proofs)
    most, limits = chance.choice((50, 50, 50, 6, 0)), dict(DEFAULT_LIMITS)
    if chance.random() < 0.1:
        limits[Cost.HASHES] = chance.randrange(6)
    first, then, alone = (Budget(limits) for _ in range(3))
    given = (qname, tuple(proofs), zone.apex, most)
    quick, slow = outcome(compiled.plain_nxdomain, *given, first), outcome(denied_in_python, *given, alone)
    if quick is None:
        then.hashes, then.spent = first.hashes, first.spent
        assert outcome(denied_in_python, *given, then) == slow
        assert (then.spent, then.hashes) == (alone.spent, alone.hashes), given
        assert not (good and isinstance(slow, denial.Proof) and slow.kind is denial.ProofKind.NXDOMAIN), given
    else:
        assert (quick, first.spent, first.hashes) == (slow, alone.spent, alone.hashes), given
    if isinstance(slow, denial.Proof) and slow.kind is denial.ProofKind.NXDOMAIN:
        seen[4 if good else 5] += 1
        seen[6] += not good and quick is not None


def compare(seed, rounds):
    chance, seen = random.Random(seed), [0, 0, 0, 0, 0, 0, 0]
    for _ in range(rounds):
        compare_names(chance)
        compare_signers(chance)
        compare_claims(chance, seen)
        compare_denials(chance, seen)
    return seen


@pytest.mark.parametrize("seed", range(4))
def test_the_compiled_ones_agree_with_python(seed):
    rounds = 5000
    plain, others, claims, quick, denied, spoilt, plainly = compare(seed, rounds)
    assert plain > rounds / 8
    assert others - claims > rounds / 4  # flaws
    assert quick > claims / 4
    assert denied > rounds / 8
    assert plainly > spoilt / 8
