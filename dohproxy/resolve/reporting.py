"""Zones told of their own errors, where they ask for it: the side of the reporting resolver (RFC 9567)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from dohproxy.model import INTERNAL, Answer, Name, Query, Question, Security, Stage
from dohproxy.resolve.flights import Flights
from dohproxy.wire import names
from dohproxy.wire.constants import IN, TXT

log = logging.getLogger(__name__)

HOLD: Final = 3600.0
"""Seconds before the same error of the same name is reported again, whatever the TTL of what the agent said."""
PER_MINUTE: Final = 10
"""Reports at most: a zone that is bogus for every random name must not make us its agent's flood."""
MAX_HELD: Final = 1000

_ER: Final = b"_er"
_FAILED: Final = (Security.BOGUS, Security.INDETERMINATE)


class Reporting:
    """Asks the agent that a zone's servers name for a name that tells the error: the question is the report.

    It is asked of `below`, like any question and validated like any, so that what the agent says of it is cached; nobody waits
    for it. Errors of such questions are not reported (RFC 9567 6.1).
    """

    def __init__(self, below: Stage, flights: Flights, *, timeout: float, now: Callable[[], float]) -> None:
        self._below, self._flights, self._timeout, self._now = below, flights, timeout, now
        self._held: dict[Name, float] = {}
        """Reports of late, and until when they are not repeated; the eldest first."""

    async def resolve(self, query: Query) -> Answer:
        """The answer as it comes from below; an error of it is reported on the side."""
        answer = await self._below.resolve(query)
        if answer.agent and answer.security in _FAILED:
            self._report(query.question, answer)
        return answer

    def _report(self, question: Question, answer: Answer) -> None:
        name = report_name(question, answer.ede[0].code if answer.ede else 0, answer.agent)
        if name is None or not self._is_due(name):
            return
        report = Question(name, TXT)
        query = Query(report, INTERNAL, trio.current_time() + self._timeout)
        log.info("an error of %s is reported: %s", names.to_text(question.qname), names.to_text(name))
        self._flights.launch(("report", report), partial(self._below.resolve, query))

    def _is_due(self, name: Name) -> bool:
        """Whether this may be reported now; if so, it counts as done."""
        now = self._now()
        if self._held.get(name, now) > now or self._lately(now) >= PER_MINUTE:
            return False
        self._held.pop(name, None)
        self._held[name] = now + HOLD
        if len(self._held) > MAX_HELD:
            del self._held[next(iter(self._held))]
        return True

    def _lately(self, now: float) -> int:
        """The reports of the last minute, but no more of them than are allowed."""
        count = 0
        for until in reversed(self._held.values()):
            if until <= now + HOLD - 60 or count == PER_MINUTE:
                break
            count += 1
        return count


def report_name(question: Question, code: int, agent: Name) -> Name | None:
    """The name that tells this error (an EDE INFO-CODE) to the agent (RFC 9567 6.1.1).

    None where there is none to be asked: too long a name, another class, or a question that itself is a report.
    """
    subject = names.labels(question.qname)
    if question.qclass != IN or subject[:1] == [_ER] or agent in (b"", names.ROOT):
        return None
    labels = [_ER, b"%d" % question.qtype, *subject, b"%d" % code, _ER, *names.labels(agent)]
    if sum(len(label) + 1 for label in labels) + 1 > 255:
        return None
    return names.from_labels(labels)
