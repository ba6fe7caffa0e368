"""Failures, remembered for a moment so that a broken zone is not asked about without end (RFC 9520, RFC 4035 4.7)."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from dohproxy.cache.answers import Key
from dohproxy.cache.bounded import SLOT, Bounded, bytes_size
from dohproxy.errors import CachedFailure, ResolveError
from dohproxy.model import Answer, Ede, RRset

MAX_TTL: Final = 300
"""Seconds (RFC 9520 3.2)."""
MAX_OCTETS: Final = 8 << 20

_FAILURE: Final = 1024
"""Octets of key, reasons or empty answer, about."""
_RRSET: Final = 300
_POINTER: Final = 8


class _Failure(Struct, frozen=True):
    reasons: tuple[Ede, ...]
    """Of an error only the reasons: the exception would keep alive all that its traceback saw."""
    answer: Answer | None
    until: float


class FailureStore:
    """What failed, by question, each for `ttl` seconds; at most `limit` octets of it.

    A failure is an error, or an answer that did not validate: what becomes of that is for its client's mode to say.
    """

    def __init__(self, ttl: int, limit: int = MAX_OCTETS) -> None:
        self._ttl = min(ttl, MAX_TTL)
        self._failures: Bounded[Key, _Failure] = Bounded(limit, _octets_of)

    def __len__(self) -> int:
        return len(self._failures)

    def get(self, key: Key, now: float) -> CachedFailure | Answer | None:
        """How this question failed a moment ago: the error to raise now, or the answer."""
        failure = self._failures.get(key)
        if failure is None:
            return None
        if now >= failure.until:
            self._failures.discard(key)
            return None
        return failure.answer or CachedFailure(failure.reasons)

    def put(self, key: Key, failed: ResolveError | Answer, now: float) -> None:
        """Remember that this question failed; a failure that was itself remembered is not prolonged."""
        if isinstance(failed, Answer):
            self._failures.put(key, _Failure((), failed, now + self._ttl))
        elif not isinstance(failed, CachedFailure):
            self._failures.put(key, _Failure(failed.edes, None, now + self._ttl))

    def discard(self, key: Key) -> None:
        """Forget the failure: the question was answered."""
        self._failures.discard(key)

    def clear(self) -> None:
        """Forget everything."""
        self._failures.clear()


def _octets_of(_: Key, failure: _Failure) -> int:
    rrsets = failure.answer.answer + failure.answer.authority if failure.answer else ()
    return SLOT + _FAILURE + sum(map(_rrset_size, rrsets))


def _rrset_size(rrset: RRset) -> int:
    return _RRSET + sum(_POINTER + bytes_size(rdata) for rdata in rrset.rdatas + rrset.signatures)
