"""Where a message becomes a question and an answer becomes a message: the gate, the finished replies, the pipeline.

`recall` is the fast path: it replays what `answer` produced, and decides nothing. Deleting the reply store changes speed
and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import trio
from msgspec import Struct
from msgspec.structs import replace

from dohproxy.cache.replies import ReplyStore
from dohproxy.clock import Clock
from dohproxy.contained import contained, is_defect, tell
from dohproxy.core import recaller
from dohproxy.core.finished import Finished, finish
from dohproxy.core.pure import Kept
from dohproxy.courses import Courses
from dohproxy.errors import NotServed, ResolveError
from dohproxy.model import (
    Action,
    Answer,
    Attested,
    Client,
    Ede,
    Outcome,
    Peer,
    Query,
    Question,
    Security,
    Source,
    Stage,
    Transport,
)
from dohproxy.resolve.selected import Begun
from dohproxy.resolve.straight import Straight
from dohproxy.wire import constants as c
from dohproxy.wire.peek import question_at_hand
from dohproxy.wire.quick import parse_request_untrusted
from dohproxy.wire.reply import error_reply_for
from dohproxy.wire.request import BadRequest, NotARequest, Request, error_reply

log = logging.getLogger(__name__)

MAX_KNOWN_CLIENTS = 65536
_STREAM_LIMIT = c.MAX_MESSAGE
_UDP = Transport.UDP  # here: an enumeration looks its members up slowly
_REFUSED_TYPES = frozenset((c.AXFR, c.IXFR, c.MAILA, c.MAILB, c.TKEY, c.TSIG, c.OPT))
_SPECIAL_TYPES = _REFUSED_TYPES | {c.ANY}


class Observer(Protocol):
    """Who is told what became of a query: logs, counters."""

    def observe(self, outcome: Outcome) -> None:
        """Take note; must neither block nor raise."""
        ...


class Gate(Protocol):
    """Who may ask, and in which policy group."""

    def admit(self, peer: Peer) -> str | None:
        """The group of this client; None if it is not served."""
        ...


class Generation(Struct, frozen=True):
    """What one configuration made: replaced whole by a reload."""

    pipeline: Stage
    gate: Gate
    replies: ReplyStore[Kept]
    refuse_silently: bool
    """Whether clients that are not served get silence instead of REFUSED."""
    payload_size: int
    """Octets of the largest reply over UDP, and what our OPT records say."""
    timeout: float
    """Seconds that a client's query may take."""
    straight: Straight | None = None
    """The pipeline's shorter way, if it has one."""


Done = Callable[[bytes], None]
"""Told a reply; b"" where there is none to send."""


def _nobody(_: bytes) -> None:
    pass


SILENCE = -1
"""The RCODE of an Outcome without a reply."""


class _Asked(Struct, frozen=True, gc=False):
    """One query, as far as its Outcome tells of it."""

    question: Question | None
    client: Client
    began: float


class _Asking(Struct, frozen=True, gc=False):
    """One query that the pipeline is to answer: a resolve.straight.Asker."""

    front: Front
    request: Request
    question: Question
    client: Client
    prefix: bytes
    """Of the keys of the replies of the client's group."""
    began: float
    generation: Generation
    query: Query
    done: Done

    def answered(self, answer: Answer, now: float) -> None:
        """Reply with this answer."""
        self.done(self.front.walled_reply(self, answer, now))

    def failed(self, error: ResolveError) -> None:
        """Reply that there is no answer; nothing where not even that can be said."""
        reply = b""
        with contained("a query"):
            reply = self.front.fail(self, error)
        self.done(reply)

    def abandoned(self) -> None:
        """Reply nothing."""
        self.done(b"")

    async def by_stages(self, begun: Begun | None = None) -> None:
        """Reply with what the pipeline says; with nothing if that is cancelled. What was begun is taken up, or let go."""
        reply = b""
        try:
            reply = await self.front.by_stages(self, begun)
        finally:
            if begun is not None:
                begun.let_go()
            self.done(reply)


class Front:
    """Answers messages. `observers` are told of misses and of what policy stopped; of all hits too where `tell_hits`."""

    def __init__(self, generation: Generation, observers: Sequence[Observer], clock: Clock, tell_hits: bool = False) -> None:
        self._observers, self._now, self._tell_hits = observers, clock.now, tell_hits
        self.recall = recaller(clock.now, self._tell_hit, tell_hits, self._tell_defect)
        """The finished reply to a message, if one is at hand: see `dohproxy.core`. No await, no decision, no exception."""
        self._time: Callable[[], float] | None = None
        """The clock of deadlines, once there is one."""
        self._defects: set[tuple[type[Exception], int]] = set()
        self.replace(generation)

    def replace(self, generation: Generation) -> None:
        """Answer by this generation from now on; queries under way end in the one that they began in."""
        self._generation = generation
        self._payload_size = generation.payload_size
        self._groups: dict[Peer, tuple[str, bytes] | None] = {}
        self._prefixes: dict[str, bytes] = {}
        self.recall.use(self._groups, generation.replies.get, generation.payload_size)

    def forget(self) -> None:
        """Replay no reply that is kept now: what it was decided by does not hold any more."""
        self._generation.replies.clear()

    def _group(self, peer: Peer) -> tuple[str, bytes] | None:
        """The group of this client, and the prefix of its keys; None if it is not served."""
        if len(self._groups) >= MAX_KNOWN_CLIENTS:
            self._groups.clear()
        name = self._generation.gate.admit(peer)
        found = None if name is None else (name, self._prefix(name))
        self._groups[peer] = found
        return found

    def _prefix(self, group: str) -> bytes:
        """What the keys of the replies of a policy group begin with: no group ever has those of another."""
        prefix = self._prefixes.get(group)
        if prefix is None:
            prefix = self._prefixes[group] = len(self._prefixes).to_bytes(4)
        return prefix

    async def answer(self, wire: bytes, peer: Peer, transport: Transport) -> bytes:
        """The reply to one message; b"" where silence is the answer. Raises nothing but cancellation."""
        asking = self._asking(wire, peer, transport, _nobody)
        return asking if isinstance(asking, bytes) else await self.by_stages(asking)

    def begin(self, wire: bytes, peer: Peer, transport: Transport, courses: Courses, done: Done) -> None:
        """The same, but `done` is told the reply: at once, or later from one of the courses. Raises nothing."""
        asking = self._asking(wire, peer, transport, done)
        if isinstance(asking, bytes):
            done(asking)
            return
        straight = asking.generation.straight
        if straight is None or not straight.begin(asking, courses, asking.began):
            courses.begin(asking.by_stages())

    def _asking(self, wire: bytes, peer: Peer, transport: Transport, done: Done) -> _Asking | bytes:
        """What the pipeline is to answer; or the reply, if that takes none."""
        began = self._now()
        try:
            request = parse_request_untrusted(wire)
        except NotARequest:
            self._tell_error(_Asked(None, _client(peer, transport), began), SILENCE, 0)
            return b""
        except BadRequest as bad:
            return self._refuse_unread(bad, peer, _Asked(None, _client(peer, transport), began))
        group = self._groups.get(peer) or self._group(peer)
        if group is None:
            return self._turn_away(request, _Asked(request.question, _client(peer, transport), began))
        generation, question = self._generation, request.question
        client = _client(peer, transport, group[0])
        if self._time is None:
            self._time = trio.lowlevel.current_clock().current_time  # as trio.current_time, but for two calls less
        deadline = self._time() + generation.timeout
        if request.flags & c.RD and question.qclass == c.IN and question.qtype not in _SPECIAL_TYPES:  # mostly
            query = Query(question, client, deadline, request.flags & c.CD != 0)
            return _Asking(self, request, question, client, group[1], began, generation, query, done)
        query = _query(request, client, deadline)
        asking = _Asking(self, request, question, client, group[1], began, generation, query, done)
        answer = screened(request)
        return asking if answer is None else self.walled_reply(asking, answer, began)

    async def by_stages(self, asking: _Asking, begun: Begun | None = None) -> bytes:
        """The reply by all stages; b"" where silence is the answer. Raises nothing but cancellation."""
        try:
            query = asking.query if begun is None else replace(asking.query, begun=begun)
            answer = await asking.generation.pipeline.resolve(query)
            return self.reply(asking, answer, self._now())
        except ResolveError as error:
            return self.fail(asking, error)
        except BaseException as error:  # whatever a stranger's packet finds in us, the service goes on, and says so
            if not is_defect(error):
                raise
            tell("a query", error)
            return self.fail(asking, ResolveError("internal error"))

    def walled_reply(self, asking: _Asking, answer: Answer, now: float) -> bytes:
        """The same as `reply`; a defect is told, and makes it an error."""
        try:
            return self.reply(asking, answer, now)
        except BaseException as error:  # as in by_stages
            if not is_defect(error):
                raise
            tell("a query", error)
            return self.fail(asking, ResolveError("internal error"))

    def fail(self, asking: _Asking, error: ResolveError) -> bytes:
        """The reply where there is no answer."""
        return self._fail(asking.request, asking, error)

    def reply(self, asking: _Asking, answer: Answer, now: float) -> bytes:
        """The reply to this client with this answer, which is remembered; b"" where silence is the answer."""
        request, generation, verdict = asking.request, asking.generation, answer.verdict
        if verdict is not None:
            if verdict.action is Action.DROP:
                self._tell_answer(asking, answer, SILENCE, 0, now)
                return b""
            if verdict.action is Action.ALLOW:
                verdict = None
        if asking.client.transport is not _UDP:
            limit = _STREAM_LIMIT
        else:
            limit = c.MIN_PAYLOAD if request.edns is None else self._limit_of(request)
        size, told = generation.payload_size, verdict is not None
        sent, key, packed = finish(answer, request, payload_size=size, now=now, limit=limit, told=told)
        if key is not None and packed is not None and generation is self._generation:
            # what an earlier one decided must not be replayed by a later one
            kept: Kept = packed
            if told or self._tell_hits:
                kept = Finished(packed, answer.rcode, answer.security, answer.ede, answer.upstream, verdict)
            generation.replies.put(asking.prefix + key, kept)
        self._tell_answer(asking, answer, answer.rcode, len(sent), now)
        return sent

    def _limit_of(self, request: Request) -> int:
        """Octets of a reply over UDP to a client that uses EDNS."""
        if request.question.qtype == c.ANY and request.do:
            return 0  # truncated: such answers are worth a TCP connection (RFC 8482 4.4), and not an amplifier's
        return min(request.payload_limit, self._payload_size)

    def _refuse_unread(self, bad: BadRequest, peer: Peer, asked: _Asked) -> bytes:
        if (self._groups.get(peer) or self._group(peer)) is None and self._generation.refuse_silently:
            return b""
        reply = error_reply(bad, payload_size=self._generation.payload_size)
        self._tell_error(asked, bad.rcode, len(reply))
        return reply

    def _turn_away(self, request: Request, asked: _Asked) -> bytes:
        error = NotServed("this client is not served")
        if not self._generation.refuse_silently:
            return self._fail(request, asked, error)
        self._tell_error(asked, SILENCE, 0, error)
        return b""

    def _fail(self, request: Request, asked: _Asked | _Asking, error: ResolveError) -> bytes:
        reply = error_reply_for(request, error.rcode, error.edes, payload_size=self._generation.payload_size)
        self._tell_error(asked, error.rcode, len(reply), error)
        return reply

    def _tell_answer(self, asking: _Asking, answer: Answer, rcode: int, size: int, now: float) -> None:
        """Tell the observers what a client was told with this answer."""
        duration, source, verdict = now - asking.began, answer.source, answer.verdict
        self._observed(
            Outcome(
                asking.question,
                asking.client,
                rcode,
                answer.security,
                source,
                verdict,
                answer.ede,
                answer.upstream,
                duration,
                size,
                answer.evidence,
            )
        )

    def _tell_error(self, asked: _Asked | _Asking, rcode: int, size: int, error: ResolveError | None = None) -> None:
        """The same where there was no answer; without `error` no question came to one."""
        duration, refused = self._now() - asked.began, None if error is None else error.refused
        self._observed(
            Outcome(
                asked.question,
                asked.client,
                rcode,
                Security.UNCHECKED if error is None else error.security,
                None,
                None,
                () if error is None else error.edes,
                "" if refused is None else refused.upstream,
                duration,
                size,
                None if error is None else error.evidence,
            )
        )

    def _observed(self, outcome: Outcome) -> None:
        for observer in self._observers:
            try:
                observer.observe(outcome)
            except Exception as defect:  # noqa: BLE001 -- told; what is not counted is answered all the same
                tell("an observer", defect)

    def _tell_hit(self, wire: bytes, peer: Peer, transport: Transport, finished: Kept, size: int) -> None:
        assert not isinstance(finished, bytes)  # of that there is nothing to tell
        group = self._groups.get(peer) or self._group(peer)
        outcome = Outcome(
            question_at_hand(wire),
            _client(peer, transport, group[0] if group is not None else ""),
            finished.rcode,
            finished.security,
            Source.CACHE,
            finished.verdict,
            finished.ede,
            finished.upstream,
            0.0,
            size,
        )
        for observer in self._observers:
            observer.observe(outcome)

    def _tell_defect(self, error: Exception) -> None:
        """Log what kept a reply from being replayed, once for each place in the program."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        defect = type(error), trace.tb_lineno if trace is not None else 0
        if defect not in self._defects:
            self._defects.add(defect)
            log.error("a finished reply was not replayed, by a defect of the program", exc_info=error)


def _client(peer: Peer, transport: Transport, group: str = "default") -> Client:
    if isinstance(peer, Attested):
        return Client(peer.address, transport, group, peer.identity)
    return Client(peer, transport, group)


def screened(request: Request) -> Answer | None:
    """The answer to questions that no pipeline is asked; None for all others."""
    question = request.question
    if not request.rd:
        return Answer(
            c.REFUSED, ede=(Ede(c.EDE_NOT_AUTHORITATIVE, "ask with RD set: this is a forwarder"),), source=Source.LOCAL
        )
    if question.qtype in _REFUSED_TYPES:
        return Answer(c.NOTIMP, source=Source.LOCAL)
    if question.qclass not in (c.IN, c.CLASS_ANY):
        return Answer(c.REFUSED, ede=(Ede(c.EDE_NOT_SUPPORTED, "only class IN is served"),), source=Source.LOCAL)
    return None


def _query(request: Request, client: Client, deadline: float) -> Query:
    """What the pipeline is asked. QCLASS ANY is answered with class IN, the only one that there is here (RFC 1035 3.2.5).

    ANY is answered minimally, but not to those who set DO: what we make up we cannot sign.
    """
    question = request.question
    if question.qclass != c.IN:
        question = Question(question.qname, question.qtype)
    if question.qtype == c.ANY and not request.do:
        return Query(question, client, deadline, request.cd, minimal=True)
    return Query(question, client, deadline, request.cd)
