"""Policy: the question judged before anything else is tried, the answer before it is handed out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from dohproxy.errors import ValidationFailed
from dohproxy.model import Answer, Ede, Mode, Name, Query, Question, Security, Source, Stage, Verdict
from dohproxy.policy.answers import answer_for
from dohproxy.policy.engine import Engine
from dohproxy.policy.group import Group, blocks
from dohproxy.wire import names

_FAILED = (Security.BOGUS, Security.INDETERMINATE)
_OFF, _REQUIRE_SECURE, _LOCAL = Mode.OFF, Mode.REQUIRE_SECURE, Source.LOCAL  # here: an enumeration looks them up slowly
_LENIENT = (Mode.OFF, Mode.LOG_ONLY)


class Passage(Struct, frozen=True, gc=False):
    """How a question passes: the asking client's group, what its rules say, and the DNSSEC mode that applies."""

    group: Group
    asked: Verdict | None
    mode: Mode


class Policed:
    """Applies the policy of the asking client's group, and its DNSSEC mode.

    `modes` has the zones that configure a mode of their own: it goes before the group's, which goes before `mode`.
    Bogus data fails before policy looks at it, and so never becomes an answer by being rewritten.
    """

    def __init__(
        self,
        below: Stage,
        engine: Engine,
        *,
        mode: Mode,
        modes: Mapping[Name, Mode],
        zones: frozenset[Name],
        now: Callable[[], float],
    ) -> None:
        self._below, self._engine, self._mode, self._modes, self._zones, self._now = below, engine, mode, modes, zones, now
        every = (mode, *modes.values(), *(group.mode for group in engine.groups))
        self._validates = any(one not in (None, Mode.OFF) for one in every)
        alike = [group for group in engine.groups if not (group.names_matter or modes)]
        self._alike = {group: Passage(group, group.default, group.mode or mode) for group in alike}
        """Of the groups whose questions all pass alike."""

    async def resolve(self, query: Query) -> Answer:
        """The answer that this client may have; raises ValidationFailed where its mode refuses the verdict."""
        passage = self.passage(query)
        if passage.asked is not None and blocks(passage.asked):
            return answer_for(passage.asked, query.question, self._now())
        answer = await self._below.resolve(self.as_wanted(query, passage))
        return self.let_through(query, passage, answer)

    def passage(self, query: Query) -> Passage:
        """What policy says of the question, before anyone is asked."""
        group = self._engine.group(query.client)
        alike = self._alike.get(group)
        if alike is not None:
            return alike
        return Passage(group, group.judge_question(query.question), self.mode_of(query.question, group))

    def as_wanted(self, query: Query, passage: Passage) -> Query:
        """The question as it is passed on. CD is the client's to set (RFC 4035 3.2.2), but not to get around `require-secure`;
        `off` checks nothing. Where nothing is validated for anybody, the client's CD is for the upstream.
        """
        if not self._validates:
            return query
        cd = passage.mode is _OFF or (query.cd and passage.mode is not _REQUIRE_SECURE)
        return query if cd == query.cd else replace(query, cd=cd)

    def let_through(self, query: Query, passage: Passage, answer: Answer) -> Answer:
        """The answer, or what policy puts in its place; raises ValidationFailed where the mode refuses the verdict."""
        if answer.source is _LOCAL:
            return answer
        group, asked = passage.group, passage.asked
        answer = enforced(passage.mode, answer if asked is None else replace(answer, verdict=asked), query.cd)
        exempt = self._in_zone(query.question.qname) if self._zones else False
        found = group.judge_answer(query.question, answer, asked, exempt)
        if found is not None and blocks(found):
            return replace(answer_for(found, query.question, self._now()), evidence=answer.evidence)
        return answer if found is None else replace(answer, verdict=found)

    def mode_of(self, question: Question, group: Group) -> Mode:
        """The DNSSEC mode for this question: of its zone, else of the group, else of all."""
        for zone in names.suffixes(question.qname) if self._modes else ():
            if zone in self._modes:
                return self._modes[zone]
        return group.mode or self._mode

    def _in_zone(self, qname: Name) -> bool:
        return any(zone in self._zones for zone in names.suffixes(qname))


def enforced(mode: Mode, answer: Answer, cd: bool) -> Answer:
    """The answer, if this mode lets it pass; raises ValidationFailed otherwise, with the reason that validation gave."""
    if mode in _LENIENT or (cd and mode is not _REQUIRE_SECURE):
        return answer
    if answer.security in _FAILED:
        raise ValidationFailed(answer.ede, answer)
    if mode is _REQUIRE_SECURE and answer.security is not Security.SECURE:
        why = Ede(0, "insecure, and only secure answers are wanted here")
        raise ValidationFailed((why, *answer.ede), answer)
    return answer
