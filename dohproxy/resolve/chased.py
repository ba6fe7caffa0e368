"""CNAME chains made whole: a chain that an upstream left open, or that leaves its zone, is followed (RFC 1034 4.3.2)."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from dohproxy.errors import ResolveError, UpstreamFailed
from dohproxy.model import Answer, Name, Query, Question, RRset
from dohproxy.resolve.redirections import Redirections
from dohproxy.resolve.routed import Routed
from dohproxy.wire import names
from dohproxy.wire.constants import ANY, CNAME, DNAME, NOERROR, RRSIG, SOA

_ALIASES = (CNAME, DNAME)
_UNFOLLOWED = (CNAME, ANY, RRSIG)
"""Types that an alias itself answers."""
MAX_HOPS = 12
"""Questions asked to complete one chain; a longer one is an error or an attack."""


class Chased:
    """Follows CNAMEs to their end, over the upstreams of every zone that they pass through.

    What an upstream says of names that another one is responsible for is not believed: the chain is cut there and the
    responsible one is asked. `proven` tells what is proven of a name that a chain leads to, so that nobody need be asked.
    """

    def __init__(self, below: Routed, redirections: Redirections, proven: Callable[[Question], Answer | None]) -> None:
        self._below, self._redirections, self._proven = below, redirections, proven

    async def resolve(self, query: Query) -> Answer:
        """The answer with its whole chain; raises UpstreamFailed if that is too long."""
        answer = self._redirections.redirect(query)
        if answer is None:
            try:
                answer = self._below.dated(await self._below.stage_of(query.question).resolve(query))
            except ResolveError:
                if (answer := self._redirections.alias(query)) is None:
                    raise
        if not has_alias(answer):
            return answer
        self.learn(query, answer)
        return answer if self.is_whole(query, answer) else await self._followed(query, answer)

    def redirects(self, query: Query) -> bool:
        """Whether what is known of aliases answers the question instead of an upstream."""
        return self._redirections.any and self._redirections.redirect(query) is not None

    def is_whole(self, query: Query, answer: Answer) -> bool:
        """Whether nothing is to be followed beyond what this answer of an upstream tells."""
        return query.question.qtype in _UNFOLLOWED or self._walk(query.question, answer)[1] is None

    async def _followed(self, query: Query, answer: Answer) -> Answer:
        """The answer after the aliases that this one has."""
        chain: tuple[RRset, ...] = ()
        proofs: tuple[RRset, ...] = ()
        asked, question = {query.question}, query.question
        while True:
            kept, target = self._walk(question, answer)
            if target is None:
                return replace(answer, answer=_joined(chain, answer.answer), authority=_joined(proofs, answer.authority))
            chain, proofs = _joined(chain, kept), _joined(proofs, _proofs(answer))
            question = Question(target, question.qtype, question.qclass)
            if question in asked:  # a loop: what there is of it is the answer
                return replace(answer, answer=chain, authority=proofs)
            if len(asked) >= MAX_HOPS:
                raise UpstreamFailed(f"a chain of more than {MAX_HOPS} aliases")
            asked.add(question)
            answer = await self._further(replace(query, question=question))

    async def _further(self, query: Query) -> Answer:
        """The answer for the target of an alias."""
        made = None if query.cd or query.avoid else self._proven(query.question)
        return made or await self._below.resolve(query)

    def learn(self, query: Query, answer: Answer) -> None:
        """Remember aliases of names that whoever answered is responsible for; a DNAME's CNAMEs can be made again."""
        zone, dnames = self._below.zone_of(query.question), []
        for rrset in answer.answer:
            if rrset.rdtype not in (CNAME, DNAME) or self._below.zone_of(Question(rrset.owner, rrset.rdtype)) != zone:
                continue
            if rrset.rdtype == DNAME:
                dnames.append(rrset.owner)
            if not any(names.is_below(rrset.owner, dname) for dname in dnames):
                self._redirections.learn(rrset, answer, query.cd)

    def _walk(self, question: Question, answer: Answer) -> tuple[tuple[RRset, ...], Name | None]:
        """What of this answer may be kept, and the name to ask for next; None if the answer is whole."""
        zone, qname = self._below.zone_of(question), question.qname
        kept: list[RRset] = []
        seen: set[Name] = set()
        while qname not in seen:
            seen.add(qname)
            if any(rrset.owner == qname and rrset.rdtype == question.qtype for rrset in answer.answer):
                return (), None
            step = _alias_at(qname, answer.answer)
            if step is None:
                ended = answer.rcode != NOERROR or any(rrset.rdtype == SOA for rrset in answer.authority)
                return tuple(kept), None if ended or not kept else qname
            rrsets, qname = step
            kept += [rrset for rrset in rrsets if rrset not in kept]
            if self._below.zone_of(Question(qname, question.qtype)) != zone:
                return tuple(kept), qname
        return (), None  # a loop within one answer


def has_alias(answer: Answer) -> bool:
    """Whether there may be a chain to follow."""
    for rrset in answer.answer:  # noqa: SIM110 -- on the path of every miss
        if rrset.rdtype in _ALIASES:
            return True
    return False


def _alias_at(qname: Name, rrsets: tuple[RRset, ...]) -> tuple[list[RRset], Name] | None:
    """The CNAME at this name, with the DNAMEs that may have made it, and its target."""
    for rrset in rrsets:
        if rrset.rdtype == CNAME and rrset.owner == qname and len(rrset.rdatas) == 1:
            dnames = [other for other in rrsets if other.rdtype == DNAME and names.is_below(qname, other.owner)]
            return [*dnames, rrset], rrset.rdatas[0].lower()
    return None


def _proofs(answer: Answer) -> tuple[RRset, ...]:
    """The authority section without what speaks of the end of the chain: wildcard proofs belong to the part that is kept."""
    return tuple(rrset for rrset in answer.authority if rrset.rdtype != SOA)


def _joined(first: tuple[RRset, ...], second: tuple[RRset, ...]) -> tuple[RRset, ...]:
    return first + tuple(rrset for rrset in second if rrset not in first)
