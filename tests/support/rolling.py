"""A zone that rolls its keys, as the stages below validation see it."""

from __future__ import annotations

from collections.abc import Sequence

from memory_tree import DAY, TTL, WALL, SigningKey, rrsig

from dohproxy.errors import NoReachableUpstream
from dohproxy.model import Answer, Name, Query, RRset
from dohproxy.wire import constants as c


def revoked(key: SigningKey, seed: int) -> SigningKey:
    """The same key with the REVOKE bit set (RFC 5011 2.1)."""
    return SigningKey(key.algorithm, key.flags | 0x80, seed)


class Rolling:
    """Answers DNSKEY of one zone: `keys`, signed by `signers` for ten days around `wall`; fails while `down`."""

    def __init__(self, zone: Name, keys: Sequence[SigningKey], signers: Sequence[SigningKey] | None = None) -> None:
        self.zone, self.wall, self.down = zone, WALL, False
        self.publish(keys, signers)
        self.asked: list[Query] = []

    def publish(self, keys: Sequence[SigningKey], signers: Sequence[SigningKey] | None = None) -> None:
        self.keys, self.signers = list(keys), list(keys if signers is None else signers)

    def rrset(self) -> RRset:
        bare = RRset(self.zone, c.DNSKEY, TTL, tuple(key.rdata for key in self.keys))
        dates = {"inception": self.wall - 5 * DAY, "expiration": self.wall + 5 * DAY}
        return RRset(self.zone, c.DNSKEY, TTL, bare.rdatas, tuple(rrsig(bare, key, self.zone, **dates) for key in self.signers))

    async def resolve(self, query: Query) -> Answer:
        self.asked.append(query)
        if self.down:
            raise NoReachableUpstream("nobody there")
        answer = (self.rrset(),) if (query.question.qname, query.question.qtype) == (self.zone, c.DNSKEY) else ()
        return Answer(c.NOERROR, answer, upstream="one" if not query.avoid else "two")
