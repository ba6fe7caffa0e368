"""One question, one flight: askers of the same question share it, and it outlives the asker that started it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType

import trio

from dohproxy.errors import NotReady, ResolveError
from dohproxy.model import Answer

log = logging.getLogger(__name__)

Take = Callable[[], Awaitable[Answer]]


class _Flight:
    __slots__ = ("error", "landed", "outcome")

    def __init__(self) -> None:
        self.landed: trio.Event | None = None  # made for the first one who waits: most flights carry one passenger
        self.outcome: Answer | None = None
        self.error: ResolveError | None = None


class Flights:
    """Flights by key. An async context: leaving it ends the flights under way.

    A flight runs in the task of the asker who started it, shielded from that asker's going away, so that the common case
    of one asker costs no task. `launch` gives it a task of its own, for askers who will not wait for its end.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}
        self._scopes: set[trio.CancelScope] = set()
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> Flights:
        self._manager = trio.open_nursery()  # not sooner: a reload makes us in a thread without a trio of its own
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            nursery.cancel_scope.cancel()
        for scope in self._scopes:
            scope.cancel()
        await self._manager.__aexit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._flights)

    def under_way(self, key: Hashable) -> bool:
        """Whether somebody is asking this already."""
        return key in self._flights

    async def join(self, key: Hashable, take: Take) -> Answer:
        """The answer of the flight with this key, which `take` is started as if there is none; raises its ResolveError."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            await self._fly(key, flight, take)
        else:
            await _landing(flight)
        return _outcome(flight)

    def launch(self, key: Hashable, take: Take) -> None:
        """Start a flight that nobody waits for, unless there is one; at the end of the service nothing is started."""
        if key not in self._flights and self._nursery is not None:
            flight = self._flights[key] = _Flight()
            self._nursery.start_soon(self._fly_alone, key, flight, take)

    async def wait(self, key: Hashable, patience: float) -> Answer | None:
        """The answer of the flight under way with this key; None if it takes longer than `patience` seconds."""
        flight = self._flights[key]
        with trio.move_on_after(patience):
            await _landing(flight)
            return _outcome(flight)
        return None

    async def _fly_alone(self, key: Hashable, flight: _Flight, take: Take) -> None:
        try:
            await self._fly(key, flight, take)
        except Exception:  # noqa: BLE001 - nobody waits for it: a defect met here must not end the service
            log.exception("a flight failed by a defect of the program")

    async def _fly(self, key: Hashable, flight: _Flight, take: Take) -> None:
        flight.error = NotReady("the question was given up")  # what stays if the flight is cancelled or fails by a defect
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                flight.outcome = await take()
            except ResolveError as error:
                flight.error = error
            finally:
                self._scopes.discard(scope)
                del self._flights[key]
                if flight.landed is not None:
                    flight.landed.set()


async def _landing(flight: _Flight) -> None:
    if flight.landed is None:
        flight.landed = trio.Event()
    await flight.landed.wait()


def _outcome(flight: _Flight) -> Answer:
    if flight.outcome is not None:
        return flight.outcome
    assert flight.error is not None  # a flight that landed has one or the other
    raise flight.error.with_traceback(None)
