"""The compiled part of `dnssec` against its twins in Python: the same, or no answer."""

import random
import struct

import pytest
from msgspec.structs import replace

from dohproxy.dnssec import pure
from dohproxy.dnssec.keys import Claim, Key, KeyRing
from dohproxy.dnssec.signatures import Dates, claim_of
from dohproxy.model import RRset
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text, label_count, suffixes

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


def compare(seed, rounds):
    chance, seen = random.Random(seed), [0, 0, 0, 0]
    for _ in range(rounds):
        compare_names(chance)
        compare_signers(chance)
        compare_claims(chance, seen)
    return seen


@pytest.mark.parametrize("seed", range(4))
def test_the_compiled_ones_agree_with_python(seed):
    rounds = 5000
    plain, others, claims, quick = compare(seed, rounds)
    assert plain > rounds / 8
    assert others - claims > rounds / 4  # flaws
    assert quick > claims / 4
