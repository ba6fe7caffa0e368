"""Answers that say no: NXDOMAIN and NODATA, and for how long they hold (RFC 2308)."""

from __future__ import annotations

from dohproxy.model import Answer, RRset
from dohproxy.wire import constants as c


def is_negative(answer: Answer, qtype: int) -> bool:
    """Whether the name, or the last that an alias led to, does not exist or has nothing of this type (RFC 2308 2)."""
    if answer.rcode != c.NOERROR:
        return True
    if qtype == c.ANY:
        return not answer.answer
    return qtype not in [rrset.rdtype for rrset in answer.answer]


def negative_ttl(soa: RRset) -> int:
    """Seconds for which the negative answer that this SOA came with may be kept (RFC 2308 5)."""
    return min(soa.ttl, *(int.from_bytes(rdata[-4:]) for rdata in soa.rdatas))
