"""Signs the lab's zones: keys, delegations with DS, RRSIGs, denial; and breaks those that are to be broken."""

from __future__ import annotations

from collections.abc import Sequence

import dns.dnssec
import dns.name
import dns.rdata
import dns.rrset
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from dns.dnssectypes import Algorithm
from dns.name import Name
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.RRSIG import RRSIG

from dohproxy.lab.denial import Chain
from dohproxy.lab.zones import ZONES, Denial, Spoil, Zone

HOUR, DAY = 3600, 86400
LIFETIME = 30 * DAY
WINDOWS = {Spoil.EXPIRED: (-30 * DAY, -10 * DAY), Spoil.NOT_YET_VALID: (10 * DAY, 30 * DAY)}
"""When spoiled signatures begin and end, in seconds from now."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Key:
    """The one key of a zone: it signs the DNSKEY RRset and everything else."""

    def __init__(self, algorithm: Algorithm, private: PrivateKey | None = None, flags: int = 257) -> None:
        self.private = private or _generate(algorithm)
        self.public: DNSKEY = dns.dnssec.make_dnskey(self.private.public_key(), algorithm, flags=flags)

    def revoked(self) -> Key:
        """The same key with the REVOKE bit set (RFC 5011 2.1)."""
        return Key(self.public.algorithm, self.private, self.public.flags | 0x80)

    def sign(self, rrset: dns.rrset.RRset, zone: Name, begin: int, end: int) -> RRSIG:
        """A signature that counts from `begin` until `end` (RFC 4034 3)."""
        return dns.dnssec.sign(rrset, self.private, zone, self.public, inception=begin, expiration=end)

    def ds(self, zone: Name) -> DS:
        """What the parent says of this key (RFC 4034 5)."""
        return dns.dnssec.make_ds(zone, self.public, "SHA256")


class SignedZone:
    """A zone as it is served: records and signatures by owner and type, and the chain that denies the rest."""

    def __init__(self, zone: Zone, wall: int) -> None:
        self.zone, self.origin = zone, dns.name.from_text(zone.origin)
        self.key = Key(zone.algorithm) if zone.algorithm is not None else None
        self.nodes: dict[Name, dict[RdataType, dns.rrset.RRset]] = {}
        self.signatures: dict[tuple[Name, RdataType], dns.rrset.RRset] = {}
        self.chain: Chain | None = None
        self.existing = {self.origin}
        """All owners and the empty non-terminals between them (RFC 4592 2.2.2)."""
        self._wall = wall
        for rrset in zone.rrsets():
            self.add(rrset)
        if self.key is not None:
            self.add(dns.rrset.from_rdata(self.origin, HOUR, self.key.public))

    def add(self, rrset: dns.rrset.RRset) -> None:
        """Takes these records in, before the zone is signed."""
        self.nodes.setdefault(rrset.name, {})[rrset.rdtype] = rrset
        name = rrset.name
        while name not in self.existing:
            self.existing.add(name)
            name = name.parent()

    def delegate(self, child: SignedZone) -> None:
        """Makes this zone the parent of `child`: NS, and DS where the child is signed."""
        self.add(child.nodes[child.origin][RdataType.NS])
        if child.key is None:
            return
        ds: dns.rdata.Rdata = child.key.ds(child.origin)
        if child.zone.wrong_ds:
            ds = ds.replace(digest=_flip(child.key.ds(child.origin).digest))
        self.add(dns.rrset.from_rdata(child.origin, HOUR, ds))

    def sign(self) -> None:
        """Signs all of it, and chains it."""
        if self.key is None:
            return
        for rrset in self._authoritative():
            self._sign(rrset)
        self.chain = self._chain()
        for record in self.chain.records:
            self._sign(record)
            if not self.chain.hashed:
                self.nodes[record.name][record.rdtype] = record

    def roll(self, keys: Sequence[Key], signers: Sequence[Key]) -> None:
        """Serve these keys, signed by those; all else stays signed as it was, so that the first key must be among them."""
        rrset = dns.rrset.from_rdata(self.origin, HOUR, *(key.public for key in keys))
        begin, end = self._wall - HOUR, self._wall + LIFETIME
        made = [key.sign(rrset, self.origin, begin, end) for key in signers]
        self.nodes[self.origin][RdataType.DNSKEY] = rrset
        self.signatures[self.origin, RdataType.DNSKEY] = dns.rrset.from_rdata(self.origin, HOUR, *made)

    def _authoritative(self) -> list[dns.rrset.RRset]:
        return [
            rrset
            for name, node in self.nodes.items()
            for rdtype, rrset in node.items()
            if name == self.origin or rdtype != RdataType.NS
        ]

    def _sign(self, rrset: dns.rrset.RRset) -> None:
        assert self.key is not None
        spoil = self.zone.spoiled.get(str(rrset.name.relativize(self.origin)))
        if spoil is Spoil.UNSIGNED and rrset.rdtype != RdataType.NSEC:
            return
        begin, end = WINDOWS.get(spoil, (-HOUR, LIFETIME)) if spoil else (-HOUR, LIFETIME)
        signature: dns.rdata.Rdata = self.key.sign(rrset, self.origin, self._wall + begin, self._wall + end)
        if spoil is Spoil.FLIPPED:
            signature = flip_signature(signature)
        self.signatures[rrset.name, rrset.rdtype] = dns.rrset.from_rdata(rrset.name, rrset.ttl, signature)

    def _chain(self) -> Chain:
        hashed, opt_out = self.zone.denial in (Denial.NSEC3, Denial.OPT_OUT), self.zone.denial is Denial.OPT_OUT
        types = {name: set(self.nodes.get(name, ())) for name in self.existing}
        if opt_out:
            types = {name: kinds for name, kinds in types.items() if kinds != {RdataType.NS}}
        return Chain(self.origin, types, hashed=hashed, opt_out=opt_out)


class Tree:
    """All zones, signed at `wall` (seconds since 1970)."""

    def __init__(self, wall: int, zones: Sequence[Zone] = ZONES) -> None:
        self.zones = {signed.origin: signed for signed in (SignedZone(zone, wall) for zone in zones)}
        for origin, zone in self.zones.items():
            if origin != dns.name.root:
                self.zone_of(origin.parent()).delegate(zone)
        for zone in self.zones.values():
            zone.sign()

    def zone_of(self, name: Name) -> SignedZone:
        """The zone that `name` is in; the child's for the name of a zone cut."""
        while name not in self.zones:
            name = name.parent()
        return self.zones[name]

    @property
    def anchors(self) -> tuple[str, ...]:
        """The DS records of the root's keys, as configuration has them."""
        key = self.zones[dns.name.root].key
        assert key is not None
        return (f". IN DS {key.ds(dns.name.root)}",)


def _generate(algorithm: Algorithm) -> PrivateKey:
    if algorithm == Algorithm.RSASHA256:
        return rsa.generate_private_key(65537, 2048)
    if algorithm == Algorithm.ECDSAP256SHA256:
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def flip_signature(rrsig: dns.rdata.Rdata) -> dns.rdata.Rdata:
    """The same RRSIG with one bit of its signature turned."""
    assert isinstance(rrsig, RRSIG)
    return rrsig.replace(signature=_flip(rrsig.signature))


def _flip(octets: bytes) -> bytes:
    """The same octets but for the last bit."""
    return octets[:-1] + bytes([octets[-1] ^ 1])
