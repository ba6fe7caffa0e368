"""One connection to an upstream: what is asked on it, and its clock. One task reads, another writes and keeps the time.

A question costs no task, no Event and no cancel scope: the asking course, or task, parks in its Exchange; the reader has it
go on with the answer, or the clock without one. What is asked in one turn of the event loop leaves in one send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from math import inf

import trio

from dohproxy.bell import Bell
from dohproxy.contained import is_defect, tell
from dohproxy.errors import Disconnected, NoReachableUpstream, NotReady, ResolveError
from dohproxy.model import Question
from dohproxy.protocol.session import Received, Session
from dohproxy.upstream.exchange import Exchange, Route

_SPOILT = "the connection ended by a defect of the proxy"
UNUSUAL = 0.4
"""Seconds that opening a connection takes where something is amiss."""


class State(Enum):
    """Of a connection."""

    CONNECTING = "connecting"
    OPEN = "open"
    SUSPECT = "suspect"
    """It kept silent while a question waited: it gets no more questions until it speaks again."""
    RETIRING = "retiring"
    """It may be answered what it was asked, and gets no more questions."""
    CLOSED = "closed"


_OPEN = State.OPEN  # here: an enumeration looks its members up slowly
_OVER = (State.RETIRING, State.CLOSED)


def _nobody_cares(_: Connection) -> None:
    pass


class Connection:
    """The questions of one connection; its kinds say how it lives.

    Opens when it runs, and ends by itself: idle, gone away, broken. Questions asked before it is open wait for it.
    """

    def __init__(self, route: Route, session: Session) -> None:
        self.route = route
        self.state = State.CONNECTING
        self._session = session
        self._backlog: dict[Exchange, None] = {}
        self._under_way: dict[int, Exchange] = {}
        self._bell = Bell(self._send_at_once)
        """Rung when there may be something to send."""
        self._clock, self._alarm = trio.CancelScope(), inf
        self._life = trio.CancelScope()
        self._active = trio.current_time()
        """When octets last came, or a question."""
        self._begun = self._active
        self.now = trio.lowlevel.current_clock().current_time  # as trio.current_time, but for two calls less
        self._opened_by = self._active + route.connect_timeout
        self._heard = -1.0
        """When the server last said something, beyond TLS."""
        self.on_open: Callable[[Connection], None] = _nobody_cares
        """Called when questions may leave, for the first time or after silence."""
        self._opened = -1.0
        self.silent_since = -1.0
        """When the question was asked that made it SUSPECT."""
        self._error: ResolveError = NotReady("the proxy is stopping")

    def __repr__(self) -> str:
        waiting = f", {len(self._backlog)} waiting" if self._backlog else ""
        return f"{self.state.value} with {len(self._under_way)} under way{waiting}"

    @property
    def room(self) -> int:
        """How many more questions it could carry at once."""
        if self.state is _OPEN:
            return self._session.capacity - len(self._backlog)
        return self.route.pipeline - len(self._backlog) if self.state is State.CONNECTING else 0

    @property
    def retiring(self) -> bool:
        """Whether it takes no more questions for good."""
        return self.state in _OVER or self._session.closing

    @property
    def queue(self) -> int:
        """How many more questions may wait for their turn here."""
        usable = self.state is not State.SUSPECT and not self.retiring
        return self.route.pipeline - len(self._backlog) if usable else 0

    def begin(self, question: Question, cd: bool = False) -> Exchange:
        """Ask; the octets leave at the end of this turn, or once the connection can take them."""
        self._active = now = self.now()
        exchange = Exchange(self, question, cd, now)
        try:
            session = self._session
            if self.state is _OPEN and not self._backlog and session.capacity > 0:
                exchange.key = key = session.begin(question, cd)
                self._under_way[key] = exchange
                self._bell.ring()
                return exchange
            self._backlog[exchange] = None
            if self.state is _OPEN:
                self._begin_waiting()
        except Exception as defect:
            self.spoil(defect)
            raise Disconnected(_SPOILT) from defect
        return exchange

    def _begin_waiting(self) -> None:
        while self._backlog and self._session.capacity > 0:
            exchange = next(iter(self._backlog))
            exchange.began = self._active
            self._start(exchange)
            del self._backlog[exchange]
        self._bell.ring()

    def _start(self, exchange: Exchange) -> None:
        exchange.key = self._session.begin(exchange.question, exchange.cd)
        self._under_way[exchange.key] = exchange

    def forget(self, exchange: Exchange) -> None:
        """Its answer is not wanted any more."""
        if exchange in self._backlog:
            del self._backlog[exchange]
        elif self._under_way.pop(exchange.key, None) is not None:
            try:
                self._session.forget(exchange.key)
            except Exception as defect:  # noqa: BLE001 -- trio, which may be calling, could not bear it
                self.spoil(defect)
            self._bell.ring()
            self._end_if_done()

    def expect(self, until: float) -> None:
        """Somebody waits until then."""
        if until < self._alarm:
            self._alarm = self._clock.deadline = until

    async def run(self) -> None:
        """Lives the connection's life; returns when it is over, with every question answered or failed."""
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._attend)
                    await self._live()
        except BaseException as error:
            if is_defect(error):
                self._error = Disconnected(_SPOILT)
            raise
        finally:
            self.state = State.CLOSED
            try:
                self._close()
            finally:
                self._fail((*self._under_way.values(), *self._backlog), self._error)
                self._under_way.clear()
                self._backlog.clear()

    async def _live(self) -> None:
        """Connects, and reads until the end."""
        raise NotImplementedError

    async def _write(self) -> None:
        """Sends what is rung for until cancelled, which loses nothing."""
        raise NotImplementedError

    def _close(self) -> None:
        """Says goodbye, and lets go of what is open."""
        raise NotImplementedError

    def _send_at_once(self) -> bool:
        """Sends what there is, if that can be done without waiting; answers whether it could."""
        return False

    def _admit(self) -> None:
        """The peer is known and ready: questions that wait may begin, unless it takes none any more."""
        if self._session.ready and self.state not in _OVER:
            if self.state is not _OPEN:
                self._open_up()
            if self._backlog:
                self._begin_waiting()
        self._fail_waiting_if_closing()

    def _open_up(self) -> None:
        if self.state is State.CONNECTING:
            self._opened = trio.current_time()
        self.state = State.OPEN
        self.on_open(self)

    def relieve(self, other: Connection) -> None:
        """Take the questions that wait for another connection to open."""
        if other.state is State.CONNECTING:
            for exchange in other._backlog:
                exchange.move(self)
            self._backlog |= other._backlog
            other._backlog.clear()

    def _fail_waiting_if_closing(self) -> None:
        if self._session.closing:
            self._fail(self._backlog, Disconnected("the connection takes no more questions"))
            self._backlog.clear()

    def _deliver(self, received: Received) -> None:
        exchange, reply = self._under_way.pop(received.key, None), received.reply
        if exchange is None:
            return
        if isinstance(reply, bytes):
            exchange.settle(reply, received.age)
        else:
            exchange.fail(reply)

    # The clock

    async def _attend(self) -> None:
        """Keeps the time, and writes meanwhile."""
        while True:
            self._alarm = self._next_deadline(self._wake_late(trio.current_time()))
            self._clock = trio.CancelScope(deadline=self._alarm)
            with self._clock:
                await self._write()
            self._end_if_late(trio.current_time())

    def _wake_late(self, now: float) -> float:
        """Wakes the tasks that have waited long enough; answers when the next has."""
        earliest = inf
        for exchange in (*self._under_way.values(), *self._backlog):
            if not exchange.waits:
                continue
            if exchange.until > now:
                earliest = min(earliest, exchange.until)
                continue
            exchange.wake()
            if self.state is State.OPEN and self._heard < exchange.began:
                self.state, self.silent_since = State.SUSPECT, exchange.began
        return earliest

    def _next_deadline(self, earliest: float) -> float:
        if self.state is State.CONNECTING:
            return min(earliest, self._opened_by)
        if not self._under_way and not self._backlog:
            return min(earliest, self._active + self._idle_timeout)
        return earliest

    def _end_if_late(self, now: float) -> None:
        if self.state is State.CONNECTING and now >= self._opened_by:
            self._end(NoReachableUpstream("no connection in time"))
        elif not self._under_way and not self._backlog and now >= self._active + self._idle_timeout:
            self._end(Disconnected("closed as idle"))

    @property
    def _idle_timeout(self) -> float:
        return self.route.idle_timeout

    # The end

    def _end_if_done(self) -> None:
        """A connection that takes no more questions is of no use once the last is answered; another becomes idle."""
        if self._under_way:
            return
        if self._session.closing or self.state in (State.SUSPECT, State.RETIRING):
            self._end(Disconnected("the connection has had its time"))
        self.expect(self._active + self._idle_timeout)

    def heard_since(self, began: float) -> bool:
        """Whether the server has said anything after that."""
        return self._heard > began

    @property
    def is_tardy(self) -> bool:
        """Whether it takes unusually long to open."""
        return self.state is State.CONNECTING and trio.current_time() >= self._begun + UNUSUAL

    def shares_fate(self, since: float) -> bool:
        """Whether it is open and was not heard of either, since another one of the same upstream fell silent."""
        return self.state is _OPEN and max(self._heard, self._opened) < since

    def spoil(self, defect: Exception) -> None:
        """Ends it by a defect of the program, which is told; what is under way is to be asked elsewhere."""
        tell(f"a connection to {self.route.upstream}", defect)
        self._end(Disconnected(_SPOILT))

    def give_up(self) -> None:
        """Ends it; what is under way is to be asked elsewhere."""
        self._end(Disconnected("the connection stalled"))

    def retire(self) -> None:
        """The network is another one. What was asked may still be answered, unless nothing can come back here any more."""
        if self.state is State.OPEN and self._under_way and not self._backlog and not self._is_cut_off():
            self.state = State.RETIRING
        elif self.state not in _OVER:
            self._end(Disconnected("the network is another one"))

    def _is_cut_off(self) -> bool:
        """Whether nothing that was sent from here can be answered any more."""
        return True

    def _end(self, error: ResolveError) -> None:
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self._error = error
            self._life.cancel()

    def _fail(self, exchanges: Iterable[Exchange], error: ResolveError) -> None:
        """Each with an error of its own: they are raised in many tasks."""
        for exchange in exchanges:
            exchange.fail(type(error)(str(error)))
