"""Aliases seen in answers: a DNAME redirects names below it without asking where they are, a CNAME when asking fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dohproxy.dnssec.aliases import substituted
from dohproxy.model import Answer, Name, Query, RRset
from dohproxy.wire import names
from dohproxy.wire.constants import CNAME, DNAME, NOERROR

MAX_KEPT: Final = 1000
"""Of each type."""


class _Kept(Struct, frozen=True, gc=False):
    answer: Answer
    """The alias alone."""
    expires: float


class Redirections:
    """CNAMEs and DNAMEs by owner, so many of each; those learnt first leave first. What is made of them is validated like
    all else.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: dict[int, dict[tuple[Name, bool], _Kept]] = {CNAME: {}, DNAME: {}}
        self.any = False
        """Whether any redirects, or ever did."""

    def learn(self, alias: RRset, answer: Answer, cd: bool) -> None:
        """Remember an alias of this answer, apart from others where checking is disabled."""
        kept = self._kept[alias.rdtype]
        self.any |= alias.rdtype == DNAME
        if len(alias.rdatas) == 1 and alias.ttl:
            kept.pop((alias.owner, cd), None)
            alone = replace(answer, answer=(alias,), authority=(), rcode=NOERROR)
            kept[alias.owner, cd] = _Kept(alone, answer.born + alias.ttl)
        if len(kept) > MAX_KEPT:
            del kept[next(iter(kept))]

    def redirect(self, query: Query) -> Answer | None:
        """The DNAME above the name that is asked for and the CNAME that it makes, if one is at hand (RFC 6672 3.4.1).

        Not on a second try: the first may have failed by it.
        """
        if not self._kept[DNAME] or query.avoid:
            return None
        qname = query.question.qname
        for owner in names.suffixes(names.parent(qname)):
            if owner != qname and (kept := self._fresh(DNAME, owner, query.cd)):
                return self._redirected(qname, kept)
        return None

    def alias(self, query: Query) -> Answer | None:
        """The CNAME at the name that is asked for, whatever the type (RFC 1034 3.6.2), if one is at hand.

        Only for want of an answer: at the apex of some zones there are others beside it, for all that RFC 1034 says.
        """
        kept = None if query.avoid else self._fresh(CNAME, query.question.qname, query.cd)
        return None if kept is None else replace(kept.answer, answer=(self._left(kept),), born=self._now())

    def _fresh(self, rdtype: int, owner: Name, cd: bool) -> _Kept | None:
        kept = self._kept[rdtype].get((owner, cd))
        if kept is not None and self._now() >= kept.expires:
            del self._kept[rdtype][owner, cd]
            return None
        return kept

    def _left(self, kept: _Kept) -> RRset:
        """The alias with what is left of its TTL."""
        return replace(kept.answer.answer[0], ttl=int(kept.expires - self._now()))

    def _redirected(self, qname: Name, kept: _Kept) -> Answer | None:
        dname = self._left(kept)
        target = substituted(qname, dname.owner, dname.rdatas[0].lower())
        if target is None:
            return None
        return replace(kept.answer, answer=(dname, RRset(qname, CNAME, dname.ttl, (target,))), born=self._now())
