"""For how long an answer may be kept (RFC 1035 3.2.1, RFC 2181 8, RFC 2308 5), and within which bounds."""

from __future__ import annotations

from typing import Final

import msgspec

from dohproxy.config.settings import Cache
from dohproxy.model import Answer, RRset, Security
from dohproxy.wire import constants as c
from dohproxy.wire.negative import is_negative, negative_ttl

NEGATIVE_WITHOUT_SOA: Final = 0
"""Seconds: a negative answer that brings no SOA is not kept (RFC 2308 5)."""

_SECURE: Final = Security.SECURE  # here: an enumeration looks its members up slowly
_PROOFS: Final = frozenset((c.NSEC, c.NSEC3))


def kept(answer: Answer, qtype: int, settings: Cache) -> tuple[Answer, int]:
    """The answer as it is kept, `clamped`, and for how long, its `lifetime`."""
    if len(answer.answer) == 1 and not answer.authority and answer.rcode == c.NOERROR:  # mostly, and in no time
        rrset = answer.answer[0]
        if rrset.rdtype == qtype and settings.min_ttl <= rrset.ttl <= settings.max_ttl:
            return answer, rrset.ttl
    answer = clamped(answer, qtype, settings)
    return answer, lifetime(answer, qtype)


def clamped(answer: Answer, qtype: int, settings: Cache) -> Answer:
    """The answer with its TTLs within the bounds that are configured.

    `max_ttl` bounds all, and `max_negative_ttl` the SOA of a negative answer, which is first lowered to its MINIMUM field.
    `min_ttl` lifts what a positive answer consists of, but nothing that is SECURE: those TTLs may not outlive a signature
    (RFC 4035 5.3.3).
    """
    negative = is_negative(answer, qtype)
    least = 0 if negative or answer.security is _SECURE else settings.min_ttl
    if not negative and _are_within(answer, least, settings.max_ttl):
        return answer
    return msgspec.structs.replace(
        answer,
        answer=tuple([_with_ttl(rrset, min(max(rrset.ttl, least), settings.max_ttl)) for rrset in answer.answer]),
        authority=tuple([_with_ttl(rrset, _authority_ttl(rrset, negative, settings)) for rrset in answer.authority]),
    )


def _are_within(answer: Answer, least: int, most: int) -> bool:
    ttls = [rrset.ttl for rrset in answer.answer]
    return least <= min(ttls) and max(ttls + [rrset.ttl for rrset in answer.authority]) <= most


def _authority_ttl(rrset: RRset, negative: bool, settings: Cache) -> int:
    if negative and rrset.rdtype == c.SOA:
        return min(negative_ttl(rrset), settings.max_negative_ttl, settings.max_ttl)
    return min(rrset.ttl, settings.max_ttl)


def _with_ttl(rrset: RRset, ttl: int) -> RRset:
    if ttl == rrset.ttl:
        return rrset
    return RRset(rrset.owner, rrset.rdtype, ttl, rrset.rdatas, rrset.signatures, rrset.rdclass)


def lifetime(answer: Answer, qtype: int) -> int:
    """Seconds from its birth for which this answer, its TTLs clamped, is fresh; 0 is not to be kept.

    The smallest TTL of its answer section and of the proofs beside it; of its SOA too where it is negative. Only NOERROR
    and NXDOMAIN are answers about data.
    """
    if answer.rcode not in (c.NOERROR, c.NXDOMAIN):
        return 0
    ttls = [rrset.ttl for rrset in answer.answer]
    if answer.authority:
        ttls += [rrset.ttl for rrset in answer.authority if rrset.rdtype in _PROOFS]
    if is_negative(answer, qtype):
        ttls.append(min((rrset.ttl for rrset in answer.authority if rrset.rdtype == c.SOA), default=NEGATIVE_WITHOUT_SOA))
    return min(ttls)
