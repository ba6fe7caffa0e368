"""DNAMEs seen in answers: names below them are redirected without asking where they are (RFC 6672 3.4.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dohproxy.dnssec.aliases import substituted
from dohproxy.model import Answer, Name, Query, RRset
from dohproxy.wire import names
from dohproxy.wire.constants import CNAME, NOERROR

MAX_KEPT: Final = 1000


class _Kept(Struct, frozen=True, gc=False):
    answer: Answer
    """The DNAME alone."""
    expires: float


class Redirections:
    """DNAMEs by owner, at most so many; those learnt first leave first. What is made of them is validated like all else."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: dict[tuple[Name, bool], _Kept] = {}

    def learn(self, dname: RRset, answer: Answer, cd: bool) -> None:
        """Remember a DNAME of this answer, apart from others where checking is disabled."""
        if len(dname.rdatas) == 1 and dname.ttl:
            self._kept.pop((dname.owner, cd), None)
            alone = replace(answer, answer=(dname,), authority=(), rcode=NOERROR)
            self._kept[dname.owner, cd] = _Kept(alone, answer.born + dname.ttl)
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]

    def redirect(self, query: Query) -> Answer | None:
        """The DNAME above the name that is asked for and the CNAME that it makes, if one is at hand.

        Not on a second try: the first may have failed by it.
        """
        if not self._kept or query.avoid:
            return None
        qname, now = query.question.qname, self._now()
        for owner in names.suffixes(names.parent(qname)):
            kept = self._kept.get((owner, query.cd))
            if kept is None or owner == qname:
                continue
            if now >= kept.expires:
                del self._kept[owner, query.cd]
                continue
            return _redirected(qname, kept, now)
        return None


def _redirected(qname: Name, kept: _Kept, now: float) -> Answer | None:
    dname = kept.answer.answer[0]
    target = substituted(qname, dname.owner, dname.rdatas[0].lower())
    if target is None:
        return None
    left = replace(dname, ttl=int(kept.expires - now))
    return replace(kept.answer, answer=(left, RRset(qname, CNAME, left.ttl, (target,))), born=now)
