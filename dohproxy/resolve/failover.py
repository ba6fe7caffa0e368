"""One question's way through several upstreams: whom to ask next, and what to say when nobody helps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from dohproxy.errors import Disconnected, NoReachableUpstream, NotReady, Overloaded, ResolveError, UpstreamFailed
from dohproxy.model import Answer
from dohproxy.resolve.member import Member
from dohproxy.wire import constants as c
from dohproxy.wire.text import rcode_to_text

_TRIES = 2
"""Of one question at one upstream at most."""
REFUSALS = frozenset((c.FORMERR, c.SERVFAIL, c.NOTIMP, c.REFUSED))
"""RCODEs that say something of the upstream rather than of the name: another may do better."""
_LATE = "no answer in time"


class Tries:
    """The plan for one question, and what came of it so far. `on_down` is told of members that turn out to be down."""

    def __init__(self, members: Iterable[Member], on_down: Callable[[Member], None]) -> None:
        self._plan = deque(members)
        self._on_down = on_down
        self._count: dict[str, int] = {}
        self._failures: dict[str, str] = {}
        self._kind: type[ResolveError] = NotReady
        """Of the error in the end: the most telling of those seen."""

    def next(self) -> Member | None:
        """Whom to ask now."""
        if not self._plan:
            return None
        member = self._plan.popleft()
        self._count[member.name] = self._count.get(member.name, 0) + 1
        return member

    def tarries(self, member: Member, *, silent: bool = False) -> None:
        """No answer as soon as usual: it may be asked once more, and does not wait for that if it is altogether silent."""
        self._fail(member, NoReachableUpstream(_LATE))
        self._again(member, self._plan.appendleft if silent else self._plan.append)

    def unheard(self, member: Member, began: float) -> None:
        """Another one's answer came first, and nobody waits for this one's any more, which was slow to come."""
        self._judge(member, _LATE, began)

    def late(self, member: Member, began: float) -> None:
        """No answer yet: others are asked, then perhaps the same once more, over another connection."""
        self._fail(member, NoReachableUpstream(_LATE))
        self._judge(member, _LATE, began)
        self._again(member, self._plan.append)

    def refused(self, member: Member, answer: Answer) -> None:
        """An answer that is none."""
        said = "".join(f" (EDE {ede.code}{': ' if ede.text else ''}{ede.text})" for ede in answer.ede)
        self._failures[member.name] = f"{rcode_to_text(answer.rcode)} from {member.name}{said}"
        self._kind = UpstreamFailed

    def failed(self, member: Member, began: float, error: ResolveError) -> None:
        """No answer will come of this try."""
        self._fail(member, error)
        if isinstance(error, NoReachableUpstream):
            self._judge(member, str(error), began, certain=True)
        elif isinstance(error, Disconnected) and self._again(member, self._plan.appendleft):
            pass  # a connection that was closed just then, most likely
        elif isinstance(error, UpstreamFailed):
            self._judge(member, str(error), began)
            self._again(member, self._plan.append)

    def _fail(self, member: Member, error: ResolveError) -> None:
        text = str(error)
        self._failures[member.name] = text if text.startswith(member.name) else f"{member.name}: {text}"
        kind = next(kind for kind in _TELLING if isinstance(error, kind))
        self._kind = min(kind, self._kind, key=_TELLING.index)

    def _judge(self, member: Member, reason: str, began: float, *, certain: bool = False) -> None:
        if member.health.failed(reason, began, certain=certain):
            self._on_down(member)

    def _again(self, member: Member, put: Callable[[Member], None]) -> bool:
        if self._count[member.name] >= _TRIES:
            return False
        put(member)
        return True

    def error(self) -> ResolveError:
        """That nobody helped, and why: each upstream with its reason."""
        return self._kind("; ".join(self._failures.values()) or _LATE)


_TELLING: Final[tuple[type[ResolveError], ...]] = (UpstreamFailed, NoReachableUpstream, Overloaded, NotReady, ResolveError)
