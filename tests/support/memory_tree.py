"""A signed DNS tree in memory, and a resolver over it that never errs unless told to: what a validator is driven by.

It signs with its own code, not with the project's, so that one's mistakes are not repeated by the other.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Iterable
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from msgspec.structs import replace

from dohproxy.config.settings import Anchor, NegativeAnchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import Judgement, Limits, Need, World, validate
from dohproxy.errors import ResolveError
from dohproxy.model import Answer, Name, Question, RRset
from dohproxy.wire import constants as c
from dohproxy.wire import names

WALL = 1_800_000_000
DAY = 86400
TTL = 3600
Mangle = Callable[[Question, Answer], Answer | ResolveError]


def name(text: str) -> Name:
    return names.from_text(text)


class SigningKey:
    """A private key with the DNSKEY record of its public half."""

    def __init__(self, algorithm: int = 13, flags: int = 257, seed: int = 0, protocol: int = 3, bits: int = 2048) -> None:
        self.algorithm, self.flags = algorithm, flags
        self._private = _private_key(algorithm, seed, bits)
        self.rdata = struct.pack("!HBB", flags, protocol, algorithm) + self._public()
        self.tag = _tag(self.rdata)

    def _public(self) -> bytes:
        public = self._private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return b"\3" + numbers.e.to_bytes(3, "big") + numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        if isinstance(public, ec.EllipticCurvePublicKey):
            size, numbers = (public.key_size + 7) // 8, public.public_numbers()
            return numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
        return public.public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        if isinstance(self._private, rsa.RSAPrivateKey):
            digest = {5: hashes.SHA1, 7: hashes.SHA1, 8: hashes.SHA256, 10: hashes.SHA512}[self.algorithm]
            return self._private.sign(data, padding.PKCS1v15(), digest())
        if isinstance(self._private, ec.EllipticCurvePrivateKey):
            size = 32 if self.algorithm == 13 else 48
            made = self._private.sign(data, ec.ECDSA(hashes.SHA256() if size == 32 else hashes.SHA384()))
            return b"".join(part.to_bytes(size, "big") for part in decode_dss_signature(made))
        return self._private.sign(data)

    def ds(self, zone: Name, digest_type: int = 2) -> bytes:
        digest = {1: "sha1", 2: "sha256", 4: "sha384"}.get(digest_type, "sha256")
        head = struct.pack("!HBB", self.tag, self.algorithm, digest_type)
        return head + hashlib.new(digest, zone + self.rdata).digest()


@cache
def _private_key(algorithm: int, seed: int, bits: int):
    if algorithm in (5, 7, 8, 10):
        return rsa.generate_private_key(65537, bits)
    if algorithm in (13, 14):
        curve = ec.SECP256R1() if algorithm == 13 else ec.SECP384R1()
        return ec.derive_private_key(int.from_bytes(hashlib.sha256(b"seed%d" % seed).digest(), "big") >> 1, curve)
    if algorithm == 15:
        return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"seed%d" % seed).digest())
    if algorithm == 16:
        return ed448.Ed448PrivateKey.from_private_bytes(hashlib.shake_256(b"seed%d" % seed).digest(57))
    return ec.derive_private_key(seed + 7, ec.SECP256R1())


def _tag(rdata: bytes) -> int:
    total = 0
    for at, octet in enumerate(rdata):
        total += octet if at & 1 else octet << 8
    return (total + (total >> 16)) & 0xFFFF


def rrsig(
    rrset: RRset,
    key: SigningKey,
    signer: Name,
    *,
    labels: int | None = None,
    inception: int = WALL - 10 * DAY,
    expiration: int = WALL + 10 * DAY,
    original_ttl: int = TTL,
    algorithm: int | None = None,
    tag: int | None = None,
    source: Name | None = None,
) -> bytes:
    """The RDATA of a signature over records whose names are in lower case; `source` is the owner that is signed."""
    owner = source or rrset.owner
    if labels is None:
        labels = names.label_count(owner) - owner.startswith(b"\1*")
    head = struct.pack(
        "!HBBIIIH",
        rrset.rdtype,
        algorithm or key.algorithm,
        labels,
        original_ttl,
        expiration % 2**32,
        inception % 2**32,
        key.tag if tag is None else tag,
    )
    data = head + signer
    for rdata in sorted(rrset.rdatas):
        data += owner + struct.pack("!HHIH", rrset.rdtype, rrset.rdclass, original_ttl, len(rdata)) + rdata
    return head + signer + key.sign(data)


def signed(rrset: RRset, key: SigningKey, signer: Name, **fields) -> RRset:
    return replace(rrset, signatures=(rrsig(rrset, key, signer, **fields),))


def bitmap(types: Iterable[int]) -> bytes:
    windows: dict[int, bytearray] = {}
    for rdtype in types:
        windows.setdefault(rdtype >> 8, bytearray(32))[rdtype >> 3 & 31] |= 0x80 >> (rdtype & 7)
    return b"".join(bytes([w, len(bits.rstrip(b"\0"))]) + bits.rstrip(b"\0") for w, bits in sorted(windows.items()))


def hashed(owner: Name, salt: bytes, iterations: int) -> bytes:
    digest = hashlib.sha1(owner + salt).digest()
    for _ in range(iterations):
        digest = hashlib.sha1(digest + salt).digest()
    return digest


class Zone:
    """A zone: signed by one key, or by none; its absent names denied by NSEC, or by NSEC3 with this salt and iterations."""

    def __init__(
        self,
        origin: str,
        key: SigningKey | None,
        *,
        ds: bool = True,
        digests: tuple[int, ...] = (2,),
        nsec3: tuple[bytes, int] | None = None,
        opt_out: bool = False,
    ) -> None:
        self.origin, self.key, self.ds, self.digests = name(origin), key, ds, digests
        self.nsec3, self.opt_out = nsec3, opt_out
        self.spans: list[tuple[bytes, RRset]] = []
        """The NSEC3 records by their hashes, in order."""
        self.keys = [key] if key else []
        self.data: dict[tuple[Name, int], RRset] = {}
        self.cuts: set[Name] = set()
        self.add(origin, c.SOA, b"\2ns\0\4host\0" + struct.pack("!IIIII", 1, 2, 3, 4, 300))
        self.add(origin, c.NS, b"\2ns\0")

    def add(self, owner: str, rdtype: int, *rdatas: bytes, ttl: int = TTL) -> Zone:
        rrset = RRset(name(owner), rdtype, ttl, rdatas)
        self.data[rrset.owner, rdtype] = rrset
        return self

    def seal(self) -> None:
        """Sign everything and make the chain of NSEC or NSEC3 records."""
        if self.key is None:
            return
        self.data[self.origin, c.DNSKEY] = RRset(self.origin, c.DNSKEY, TTL, tuple(key.rdata for key in self.keys))
        if self.nsec3 is None:
            owners = sorted({owner for owner, _ in self.data}, key=names.order)
            for owner, after in zip(owners, owners[1:] + owners[:1], strict=True):
                types = [rdtype for have, rdtype in self.data if have == owner] + [c.RRSIG, c.NSEC]
                self.data[owner, c.NSEC] = RRset(owner, c.NSEC, TTL, (after + bitmap(types),))
        for place, rrset in self.data.items():
            if place[1] != c.NS or place[0] == self.origin:
                self.data[place] = signed(rrset, self.key, self.origin)
        if self.nsec3 is not None:
            self._hash(*self.nsec3)

    def _hash(self, salt: bytes, iterations: int) -> None:
        """Make the NSEC3 chain, also of empty non-terminals; of unsigned delegations too unless they are opted out."""
        owners = {above for owner, _ in self.data for above in names.suffixes(owner) if names.is_subdomain(above, self.origin)}
        if self.opt_out:
            owners -= {owner for owner in self.cuts if (owner, c.DS) not in self.data}
        found = sorted((hashed(owner, salt, iterations), owner) for owner in owners)
        head = struct.pack("!BBHB", 1, self.opt_out, iterations, len(salt)) + salt + b"\x14"
        for (digest, owner), (after, _) in zip(found, found[1:] + found[:1], strict=True):
            types = [rdtype for have, rdtype in self.data if have == owner]
            types += [c.RRSIG] if types and types != [c.NS] else []
            place = b"\x20" + base64.b32hexencode(digest).lower() + self.origin
            rrset = RRset(place, c.NSEC3, TTL, (head + after + bitmap(types),))
            self.spans.append((digest, signed(rrset, self.key, self.origin)))

    def exists(self, owner: Name) -> bool:
        return any(names.is_subdomain(have, owner) for have, _ in self.data)

    def get(self, owner: Name, rdtype: int) -> RRset | None:
        return self.data.get((owner, rdtype))

    def about(self, owner: Name) -> list[RRset]:
        """What denies types at this name, or the name: an NSEC, or the NSEC3 records of a closest encloser proof."""
        if self.nsec3 is None:
            return [self.nsec_about(owner)]
        span = self._span(owner)
        if span[0] == hashed(owner, *self.nsec3) or owner == self.origin:
            return [span[1]]
        above = names.parent(owner)
        while self._span(above)[0] != hashed(above, *self.nsec3):
            owner, above = above, names.parent(above)
        return [self._span(above)[1], self._span(owner)[1]]

    def _span(self, owner: Name) -> tuple[bytes, RRset]:
        digest = hashed(owner, *self.nsec3)
        return max((span for span in self.spans if span[0] <= digest), default=self.spans[-1], key=lambda span: span[0])

    def nsec_about(self, owner: Name) -> RRset:
        """The NSEC that matches or covers the name."""
        found = [rrset for (_, rdtype), rrset in self.data.items() if rdtype == c.NSEC]
        key = names.order(owner)
        return max((r for r in found if names.order(r.owner) <= key), key=lambda r: names.order(r.owner))


class Tree:
    """Zones, and a resolver over them; `asked` notes what a validation asked for, round by round."""

    def __init__(self, *zones: Zone) -> None:
        self.zones = {zone.origin: zone for zone in zones}
        self.asked: list[tuple[Need, ...]] = []
        for zone in sorted(zones, key=lambda z: -len(z.origin)):
            if above := self._zone_above(zone.origin):
                above.data[zone.origin, c.NS] = RRset(zone.origin, c.NS, TTL, (b"\2ns\0",))
                above.cuts.add(zone.origin)
                if zone.key and zone.ds:
                    digests = tuple(zone.key.ds(zone.origin, digest) for digest in zone.digests)
                    above.data[zone.origin, c.DS] = RRset(zone.origin, c.DS, TTL, digests)
        for zone in zones:
            zone.seal()
        top = min(self.zones.values(), key=lambda z: len(z.origin))
        self.anchors = [Anchor(top.origin, c.DS, top.key.ds(top.origin))] if top.key else []
        self.negative: list[NegativeAnchor] = []
        self.keys = TrustCache()
        self.mangle: Mangle = lambda _, answer: answer
        self.limits = Limits(skew_min=0, skew_max=0)
        self.budget = Budget()
        self.now = 0.0

    def _zone_above(self, origin: Name) -> Zone | None:
        return next((self.zones[s] for s in names.suffixes(origin) if s != origin and s in self.zones), None)

    def zone_of(self, owner: Name, rdtype: int) -> Zone:
        if rdtype == c.DS and owner != names.ROOT:
            owner = names.parent(owner)
        return next(self.zones[s] for s in names.suffixes(owner) if s in self.zones)

    # Answering, as a resolver that was asked with DO=1 and CD=1

    def answer(self, question: Question) -> Answer:
        answer, authority, owner, rcode = [], {}, question.qname, c.NOERROR
        for _ in range(12):
            zone = self.zone_of(owner, question.qtype)
            found, target, proofs = self._look(zone, owner, question.qtype)
            answer += found
            authority |= {(r.owner, r.rdtype): r for r in proofs if r is not None}
            if target is None:
                rcode = c.NOERROR if found or zone.exists(owner) or self._source(zone, owner) else c.NXDOMAIN
                break
            owner = target
        return Answer(rcode, tuple(answer), tuple(authority.values()), born=self.now)

    def _look(self, zone: Zone, owner: Name, qtype: int):
        if hit := zone.get(owner, qtype):
            return [hit], None, []
        if alias := zone.get(owner, c.CNAME):
            return [alias], alias.rdatas[0], []
        for above in names.suffixes(owner):
            dname = zone.get(above, c.DNAME) if above != owner else None
            if dname:
                target = owner[: len(owner) - len(above)] + dname.rdatas[0]
                return [dname, RRset(owner, c.CNAME, TTL, (target,))], target, []
        source = None if zone.exists(owner) else self._source(zone, owner)
        denial = zone.about(owner) if zone.key else []
        if source and (hit := zone.get(source, qtype) or zone.get(source, c.CNAME)):
            made = replace(hit, owner=owner)
            return [made], made.rdatas[0] if hit.rdtype == c.CNAME and qtype != c.CNAME else None, denial
        if zone.key and not zone.exists(owner):
            denial += zone.about(source or self._wildcard(zone, owner))
        return [], None, [zone.get(zone.origin, c.SOA), *denial]

    def _wildcard(self, zone: Zone, owner: Name) -> Name:
        return b"\1*" + next(s for s in names.suffixes(owner) if zone.exists(s))

    def _source(self, zone: Zone, owner: Name) -> Name | None:
        wildcard = self._wildcard(zone, owner)
        return wildcard if zone.exists(wildcard) else None

    # Judging

    def world(self, **changes) -> World:
        fields = {
            "anchors": AnchorSet(self.anchors, self.negative),
            "keys": self.keys,
            "limits": self.limits,
            "now": self.now,
            "wall": WALL,
            "budget": self.budget,
        }
        return World(**(fields | changes))

    def fetch(self, question: Question) -> Answer | ResolveError:
        return self.mangle(question, self.answer(question))

    def judge(self, qname: str, qtype: int = c.A, answer: Answer | None = None, **changes) -> Judgement:
        """What the validator says of this question, asked of the tree; each time with a new budget."""
        self.now = changes.get("now", self.now)
        self.asked, self.budget = [], Budget(self.budget.limits)
        question = Question(name(qname), qtype)
        given = answer or self.fetch(question)
        assert isinstance(given, Answer)
        return self.drive(validate(question, given, self.world(**changes)))

    def drive(self, judging) -> Judgement:
        try:
            needs = next(judging)
            while True:
                self.asked.append(needs)
                needs = judging.send(tuple(self.fetch(Question(need.qname, need.qtype)) for need in needs))
        except StopIteration as end:
            return end.value


def usual_tree() -> Tree:
    """Root, com., example.com. and other zones, signed and not, with every kind of name."""
    root = Zone(".", SigningKey(8, seed=1))
    com = Zone("com", SigningKey(13, seed=2))
    example = Zone("example.com", SigningKey(13, seed=3))
    net = Zone("net", SigningKey(15, seed=4))
    other = Zone("other.net", SigningKey(14, seed=5))
    insecure = Zone("insecure.com", None)
    below = Zone("below.insecure.com", SigningKey(13, seed=6), ds=False)
    address = bytes((192, 0, 2, 1))
    example.add("www.example.com", c.A, address).add("deep.a.b.example.com", c.A, address)
    example.add("*.wild.example.com", c.A, address).add("*.wildalias.example.com", c.CNAME, name("www.other.net"))
    example.add("alias.example.com", c.CNAME, name("www.example.com")).add("far.example.com", c.CNAME, name("www.other.net"))
    example.add("out.example.com", c.CNAME, name("www.insecure.com")).add("gone.example.com", c.CNAME, name("no.other.net"))
    example.add("old.example.com", c.DNAME, name("other.net")).add("loop.example.com", c.CNAME, name("pool.example.com"))
    example.add("pool.example.com", c.CNAME, name("loop.example.com"))
    example.add("many.example.com", c.A, *(bytes((192, 0, 2, n)) for n in (3, 1, 2)))
    other.add("www.other.net", c.A, address)
    insecure.add("www.insecure.com", c.A, address)
    below.add("www.below.insecure.com", c.A, address)
    return Tree(root, com, example, net, other, insecure, below)
