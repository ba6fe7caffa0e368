"""Queries without tasks: coroutines that are driven by hand for as long as they wait for nothing but an upstream's answer.

A trio task costs more than all that most queries do, so a query begins as a Course: its owner takes the first step, which
goes as far as the question to an upstream; there the course is parked, and the reader of the upstream's connection, who has
the answer, takes the next step, which mostly goes to the end. Two words make that possible, and mean nothing in a task:

    await as_task()      before anything that trio has to do with: nurseries, cancel scopes, events, sleep
    await parked()       only while `stepped()` is not None: whoever has been left that course goes on with it

Whatever becomes a task stays one: the rest of the coroutine runs in the nursery of its owner. A defect ends the one course that
met it: neither who steps it is hurt, nor its owner.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from types import coroutine
from typing import Any, NoReturn, Protocol

import trio

from dohproxy.contained import contained, is_defect, tell
from dohproxy.model import Answer

_PARKED, _AS_TASK = object(), object()
_QUERY = "a query"
_stepped: Course | None = None


def stepped() -> Course | None:
    """The course that is being driven by hand now; None in a task."""
    return _stepped


@coroutine
def parked() -> Generator[object, None, None]:
    """Wait until whoever was left this course calls `step` or `go_on`; GeneratorExit if its owner ends first."""
    yield _PARKED


@coroutine
def as_task() -> Generator[object, None, None]:
    """Go on in a trio task; does nothing in one."""
    if _stepped is not None:
        yield _AS_TASK


class Course:
    """What is driven by hand, until it is a task or at its end."""

    __slots__ = ()

    def step(self) -> None:
        """Drive it to where it waits again, or to its end. Raises nothing: a defect ends it, and is told."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Go on soon, as a task: for whoever cannot have the rest run now."""
        raise NotImplementedError

    def close(self) -> None:
        """End it where it is."""
        raise NotImplementedError


class _Coroutine(Course):
    """One that is a coroutine."""

    __slots__ = ("_coroutine", "_courses")

    def __init__(self, coroutine: Coroutine[object, None, None], courses: Courses) -> None:
        self._coroutine = coroutine
        self._courses = courses

    def step(self) -> None:
        """See Course."""
        global _stepped  # noqa: PLW0603 -- like a task, a course is known to what runs in it
        before, _stepped = _stepped, self
        try:
            trap = self._coroutine.send(None)
            if trap is not _PARKED and trap is not _AS_TASK:
                trap = self._coroutine.throw(RuntimeError("trio was asked to wait in no task: see as_task"))
        except StopIteration:
            self._courses.leave(self)
        except BaseException as error:  # noqa: BLE001 -- whoever steps is innocent of it
            self._courses.fail(self, error)
        else:
            if trap is not _PARKED:
                self.go_on()
        finally:
            _stepped = before

    def go_on(self) -> None:
        """See Course."""
        self._courses.promote(self, self._coroutine)

    def close(self) -> None:
        """See Course."""
        self._coroutine.close()


class Left(Protocol):
    """A question that was left to a course, to be read when it is `step`ped."""

    def made(self, now: float) -> Answer:
        """The answer of the reply that is there, born by the clock that says `now`; raises UpstreamFailed."""
        ...


class Exchange(Protocol):
    """A question under way at an upstream."""

    async def answer(self, until: float) -> Answer | None:
        """The answer; None if there is none by the monotonic time `until`: it may be awaited again. Or ResolveError."""
        ...

    def leave_to(self, course: Course, until: float) -> Left | None:
        """Have the course go on in place of a caller of `answer`: `step`ped when there is a reply, else told to `go_on`.

        None where that cannot be done: then `answer` is to be awaited.
        """
        ...

    @property
    def silent(self) -> bool:
        """Whether nothing at all was heard, where it was asked, since it was."""
        ...

    def drop(self) -> None:
        """Nobody wants the answer any more."""
        ...


class Courses:
    """The courses of one owner, whose nursery takes those that become tasks: see `owned`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._under_way: set[Course] = set()
        self._none_left: trio.Event | None = None
        """For who waits until none is."""

    def begin(self, coroutine: Coroutine[object, None, None]) -> None:
        """Drive this until it waits."""
        course = _Coroutine(coroutine, self)
        self.add(course)
        course.step()

    def add(self, course: Course) -> None:
        """It is under way."""
        self._under_way.add(course)

    def leave(self, course: Course) -> None:
        """It is at its end, or somebody else's."""
        self._under_way.discard(course)
        if self._none_left is not None and not self._under_way:
            self._none_left.set()

    def promote(self, course: Course, rest: Coroutine[object, None, None]) -> None:
        """The rest of it is a task."""
        if course in self._under_way:
            self._go_on(rest)
            self.leave(course)
        else:
            rest.close()

    def _go_on(self, rest: Coroutine[object, None, None]) -> None:
        self._nursery.start_soon(_rest_of, rest)

    def fail(self, course: Course, error: BaseException) -> None:
        """It ended by a defect, which is told, or by the wish to end it all, which the nursery is."""
        if is_defect(error):
            tell(_QUERY, error)
        else:
            self._nursery.start_soon(_raise, error)
        self.leave(course)

    async def ended(self) -> None:
        """Returns once none is under way."""
        while self._under_way:
            self._none_left = trio.Event()
            await self._none_left.wait()

    def close(self) -> None:
        """End those under way where they are."""
        under_way, self._under_way = self._under_way, set()
        for course in under_way:
            with contained(_QUERY):
                course.close()


class Alone(Courses):
    """The course of one query that may be withdrawn, which `close` does, as a course or as a task."""

    _task: trio.CancelScope | None = None

    def _go_on(self, rest: Coroutine[object, None, None]) -> None:
        self._task = trio.CancelScope()
        self._nursery.start_soon(_within, self._task, rest)

    def close(self) -> None:
        """End it where it is."""
        super().close()
        if self._task is not None:
            self._task.cancel()


@asynccontextmanager
async def owned() -> AsyncIterator[Courses]:
    """Courses that end before the context does; cancelled with it."""
    async with trio.open_nursery() as nursery:
        courses = Courses(nursery)
        try:
            yield courses
            await courses.ended()
        finally:
            courses.close()


async def _rest_of(course: Coroutine[Any, Any, None]) -> None:
    with contained(_QUERY):
        await _continued(course)


async def _within(scope: trio.CancelScope, course: Coroutine[Any, Any, None]) -> None:
    with scope:
        await _rest_of(course)


@coroutine
def _continued(course: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """`await` refuses a coroutine that has begun; this does not."""
    yield from course


async def _raise(error: BaseException) -> NoReturn:
    raise error
