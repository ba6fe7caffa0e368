"""One question, one flight: askers of the same question share it, whoever of them goes away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType

import trio
from msgspec import Struct

from dohproxy.contained import contained
from dohproxy.courses import as_task
from dohproxy.errors import NotReady, ResolveError
from dohproxy.model import Answer

Take = Callable[[], Awaitable[Answer]]


class Flight(Struct, eq=False):
    """One question under way, for whoever is on board; given up if it has landed with neither outcome nor error."""

    landed: trio.Event | None = None  # made for the first one who waits: most flights carry one passenger
    outcome: Answer | None = None
    error: ResolveError | None = None


class Flights:
    """Flights by key. An async context: leaving it ends the flights under way, as far as they are its own.

    A flight runs in the course or task of the asker who started it, so that the common case of one asker costs nothing more.
    If that asker goes away while others are on board, a task of our own takes it once more, for them. `launch` gives
    it such a task from the start, for askers who will not wait for its end.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}
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
        for key, flight in list(self._flights.items()):
            self.land(key, flight)
        await self._manager.__aexit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._flights)

    def under_way(self, key: Hashable) -> bool:
        """Whether somebody is asking this already."""
        return key in self._flights

    async def join(self, key: Hashable, take: Take) -> Answer:
        """The answer of the flight with this key, which `take` is started as if there is none; raises its ResolveError."""
        flight = self._flights.get(key)
        if flight is not None:
            await _landing(flight)
            return _outcome(flight)
        flight = self.take_off(key)
        try:
            flight.outcome = await take()
        except ResolveError as error:
            flight.error = error
        except BaseException:  # the asker goes away, or meets a defect of the program
            self.hand_over(key, flight, take)
            raise
        self.land(key, flight)
        return _outcome(flight)

    def take_off(self, key: Hashable) -> Flight:
        """Begin a flight, where there is none, whose asker says when it is over: `land` or `hand_over`."""
        flight = self._flights[key] = Flight()
        return flight

    def land(self, key: Hashable, flight: Flight, outcome: Answer | None = None) -> None:
        """It is over, and this is the answer, unless it has one or there is none."""
        if outcome is not None:
            flight.outcome = outcome
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.landed is not None:
            flight.landed.set()

    def hand_over(self, key: Hashable, flight: Flight, take: Take, *, always: bool = False) -> bool:
        """Its asker does not go on with it: if others are on board, or will be, `take` does. Whether it does."""
        flies_on = (always or flight.landed is not None) and self._nursery is not None
        if flies_on and self._nursery is not None:
            self._nursery.start_soon(self._fly_alone, key, flight, take)
        else:
            self.land(key, flight)
        return flies_on

    def launch(self, key: Hashable, take: Take) -> None:
        """Start a flight that nobody waits for, unless there is one; at the end of the service nothing is started."""
        if key not in self._flights and self._nursery is not None:
            flight = self._flights[key] = Flight()
            self._nursery.start_soon(self._fly_alone, key, flight, take)

    async def wait(self, key: Hashable, patience: float) -> Answer | None:
        """The answer of the flight under way with this key; None if it takes longer than `patience` seconds."""
        flight = self._flights[key]
        await as_task()
        with trio.move_on_after(patience):
            await _landing(flight)
            return _outcome(flight)
        return None

    async def _fly_alone(self, key: Hashable, flight: Flight, take: Take) -> None:
        with contained("a question that is asked beside the queries"):
            try:
                flight.outcome = await take()
            except ResolveError as error:
                flight.error = error
            finally:
                self.land(key, flight)


async def _landing(flight: Flight) -> None:
    if flight.landed is None:
        flight.landed = trio.Event()  # before anything else has its turn: it may land in that
    await as_task()
    await flight.landed.wait()


def _outcome(flight: Flight) -> Answer:
    if flight.outcome is not None:
        return flight.outcome
    if flight.error is None:
        raise NotReady("the question was given up")
    raise flight.error.with_traceback(None)
