"""Small zones with every kind of name, their NSEC and NSEC3 chains, and what is true of any question about them."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from hypothesis import strategies as st

from dohproxy.dnssec import bitmap, nsec3
from dohproxy.dnssec.proof import ProofKind
from dohproxy.model import Name, RRset
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text, is_below, is_wildcard, label_count, order, parent, wildcard_of

EXAMPLE = from_text("example.")
APEX_TYPES = frozenset((c.NS, c.SOA, c.DNSKEY))
EXISTS, ELSEWHERE = "exists", "elsewhere"
Parameters = tuple[bytes, int]


def rrsig(rdtype: int, labels: int) -> bytes:
    return rdtype.to_bytes(2, "big") + bytes((13, labels)) + bytes(14) + EXAMPLE + bytes(64)


class Zone:
    """What a zone holds, and what an authoritative server would say of it (RFC 4592 3, RFC 4035 3.1)."""

    def __init__(self, data: dict[Name, frozenset[int]]) -> None:
        self.data = {EXAMPLE: APEX_TYPES} | data
        self.cuts = [name for name, types in self.data.items() if (c.NS in types and c.SOA not in types) or c.DNAME in types]
        self.data = {name: types for name, types in self.data.items() if not self.elsewhere(name)}
        self.names = {ancestor for name in self.data for ancestor in self._ancestors(name)}

    @staticmethod
    def _ancestors(name: Name) -> Iterable[Name]:
        while name != EXAMPLE:
            yield name
            name = parent(name)
        yield EXAMPLE

    def elsewhere(self, name: Name) -> bool:
        return any(is_below(name, cut) for cut in self.cuts)

    def encloser(self, name: Name) -> Name:
        while name not in self.names:
            name = parent(name)
        return name

    def truth(self, qname: Name, qtype: int) -> ProofKind | str:
        if self.elsewhere(qname) or (qname == EXAMPLE and qtype == c.DS):
            return ELSEWHERE
        if qname in self.names:
            return ProofKind.NODATA if self._lacks(qname, qtype) else EXISTS
        wildcard = wildcard_of(self.encloser(qname))
        if wildcard in self.names:
            return ProofKind.WILDCARD_NODATA if self._lacks(wildcard, qtype) else EXISTS
        return ProofKind.NXDOMAIN

    def _lacks(self, name: Name, qtype: int) -> bool:
        types = self.data.get(name, frozenset())
        if c.NS in types and c.SOA not in types:
            return qtype == c.DS and c.DS not in types
        return not types if qtype == c.ANY else qtype not in types and c.CNAME not in types

    def ds_truth(self, name: Name) -> ProofKind | str:
        types = self.data.get(name, frozenset())
        if self.elsewhere(name) or name == EXAMPLE or c.DS in types:
            return ELSEWHERE
        return ProofKind.NO_DS if c.NS in types else ProofKind.NOT_A_CUT

    def nsecs(self) -> dict[Name, RRset]:
        owners = sorted(self.data, key=order)
        return {
            owner: nsec(owner, after, self.data[owner] | {c.RRSIG, c.NSEC})
            for owner, after in zip(owners, owners[1:] + owners[:1], strict=True)
        }

    def nsec3s(self, opt_out: bool, salt: bytes, iterations: int) -> list[RRset]:
        hidden = {name for name, types in self.data.items() if opt_out and types == {c.NS}}
        owners = {ancestor for name in self.data if name not in hidden for ancestor in self._ancestors(name)}
        self.hashed = owners
        by_hash = sorted((nsec3.hash_name(name, salt, iterations), name) for name in owners)
        return [
            nsec3_record(digest, after, self._types3(name), opt_out, (salt, iterations))
            for (digest, name), (after, _) in zip(by_hash, by_hash[1:] + by_hash[:1], strict=True)
        ]

    def _types3(self, name: Name) -> frozenset[int]:
        types = self.data.get(name, frozenset())
        return types | {c.RRSIG} if types and types != {c.NS} else types


def nsec(owner: Name, after: Name, types: Iterable[int], expanded_from: Name | None = None) -> RRset:
    signed = expanded_from or owner
    labels = label_count(signed) - is_wildcard(signed)
    return RRset(owner, c.NSEC, 3600, (after + bitmap.build(types),), (rrsig(c.NSEC, labels),))


def nsec3_record(digest: bytes, after: bytes, types: Iterable[int], opt_out: bool, parameters: Parameters) -> RRset:
    salt, iterations = parameters
    owner = b"\x20" + base64.b32hexencode(digest).lower() + EXAMPLE
    rdata = bytes((1, opt_out)) + iterations.to_bytes(2, "big") + bytes((len(salt),)) + salt + b"\x14" + after
    return RRset(owner, c.NSEC3, 3600, (rdata + bitmap.build(types),), (rrsig(c.NSEC3, label_count(owner)),))


labels = st.sampled_from([b"\1a", b"\1b", b"\1c", b"\1*"])
below_apex = st.lists(labels, min_size=1, max_size=3).map(lambda parts: b"".join(parts) + EXAMPLE)
plain = st.sets(st.sampled_from([c.A, c.TXT, c.CAA]), min_size=1).map(frozenset)
special = st.sampled_from([frozenset(t) for t in ([c.NS], [c.NS, c.DS], [c.CNAME], [c.DNAME], [c.A, c.DNAME])])


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    """Wildcards own plain data or an alias only: RFC 4592 4 leaves NS and DNAME there undefined."""
    owners = draw(st.lists(below_apex, max_size=7, unique=True))
    alias = st.just(frozenset((c.CNAME,)))
    return Zone({owner: draw(plain | alias if is_wildcard(owner) else plain | special) for owner in owners})
