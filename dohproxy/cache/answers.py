"""Answers by question, shared by all clients: packed small, kept past their TTL for when no upstream helps."""

from __future__ import annotations

import struct
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from dohproxy.cache.bounded import BYTES, SLOT, Bounded
from dohproxy.cache.lifetime import kept
from dohproxy.config.settings import Cache
from dohproxy.model import Answer, Ede, Link, Question, RRset, Security, Source, Transport
from dohproxy.wire import constants as c

Key = bytes
"""The question, and whether checking was disabled: such answers have a cache of their own. See `key_of`."""

DUE: Final = 0.1
"""The part of its lifetime that a fresh answer has left when it is worth asking again before anyone has to wait."""

_SUFFIX: Final = struct.Struct("!HH?")
_CHAINED: Final = 32 + 56
"""Octets of what holds an answer and its chain, and of an empty tuple."""
_SLOT: Final = SLOT + 2 * BYTES


def key_of(question: Question, cd: bool) -> Key:
    """What is said of this question is kept under this key."""
    return question.qname + _SUFFIX.pack(question.qtype, question.qclass, cd)


class _Packed(Struct, array_like=True, frozen=True, gc=False):
    """What is kept of an answer but for its chain; encoded as one piece of MessagePack."""

    born: float
    fresh_until: float
    rcode: int
    security: Security
    upstream: str
    transport: Transport | None
    ede: tuple[tuple[int, str], ...]
    answer: tuple[RRset, ...]
    authority: tuple[RRset, ...]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Packed).decode


class _Chained(Struct, frozen=True, gc=False):
    packed: bytes
    chain: tuple[Link, ...]
    """Its links are those of the cache of keys, and many answers' the same: they are not counted here."""


_Entry = _Chained | bytes
"""As a _Packed is encoded, with the chain of trust if there is one."""


class Found(Struct, frozen=True, gc=False):
    """An answer from the cache, perhaps past its time."""

    answer: Answer
    fresh_until: float
    """Monotonic time in seconds."""

    def is_fresh(self, now: float) -> bool:
        """Whether its TTL has not run out."""
        return now < self.fresh_until

    def is_due(self, now: float) -> bool:
        """Whether so little of its lifetime is left that it is worth fetching again."""
        return now >= self.fresh_until - DUE * (self.fresh_until - self.answer.born)

    def stale(self) -> Answer:
        """The answer as it is served past its time (RFC 8767 4), with the extended error that says so."""
        code = c.EDE_STALE_NXDOMAIN if self.answer.rcode == c.NXDOMAIN else c.EDE_STALE_ANSWER
        return msgspec.structs.replace(self.answer, stale=True, ede=(Ede(code), *self.answer.ede))


class Others(Protocol):
    """What others find out, who keep answers of the same meaning."""

    def get(self, key: Key) -> Found | None:
        """Their answer, perhaps past its time."""
        ...

    def put(self, key: Key, answer: Answer, octets: bytes, fresh_until: float) -> None:
        """Tell them this answer, which as octets is what `unpacked` reads."""
        ...

    def clear(self) -> None:
        """Have them forget everything."""
        ...


class AnswerStore:
    """Answers, at most `settings.size` octets of them; what was used longest ago leaves first, about.

    `others` may know what is not here, or not fresh; they are told what is put here. Neither holds for answers to CD.
    """

    def __init__(self, settings: Cache, others: Others | None = None) -> None:
        self._settings, self._others = settings, others
        self._stale_max = settings.stale_max if settings.stale else 0
        self._entries: Bounded[bytes, _Entry] = Bounded(settings.size, _octets_of, _SLOT)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """The memory that all entries take, about."""
        return self._entries.octets

    def get(self, key: Key, now: float) -> Found | None:
        """The answer that is kept, also past its TTL for as long as it may be served stale (RFC 8767 5).

        Whether its signatures still hold then is not known here.
        """
        entry = self._entries.get(key)
        if entry is None and self._others is None:
            return None
        found = None if entry is None else self._read(key, entry, now)
        if self._others is None or key[-1] or (found is not None and found.is_fresh(now)):  # the last octet: see _SUFFIX
            return found
        return self._told(self._others, key, found, now)

    def _told(self, others: Others, key: Key, found: Found | None, now: float) -> Found | None:
        """What others have found since, where that lives longer than what is here; kept here too while it is fresh."""
        told = others.get(key)
        if told is None or told.fresh_until <= (now - self._stale_max if found is None else found.fresh_until):
            return found
        if told.is_fresh(now):
            self._entries.put(key, _packed(told.answer, told.fresh_until))
        return told

    def _read(self, key: Key, entry: _Entry, now: float) -> Found | None:
        octets, chain = (entry, ()) if isinstance(entry, bytes) else (entry.packed, entry.chain)
        packed = _decode(octets)
        if now >= packed.fresh_until + self._stale_max:
            self._entries.discard(key)
            return None
        return Found(_unpacked(packed, chain), packed.fresh_until)

    def put(self, key: Key, answer: Answer, now: float) -> Answer:
        """Keep the answer if it may be kept; it is returned as it is kept, with its TTLs clamped.

        An answer that may not be kept, such as one with TTL 0, displaces what was there all the same; one that is no answer
        about data (SERVFAIL …) does not, so that the old one can be served stale (RFC 8767 5).
        """
        if answer.rcode not in (c.NOERROR, c.NXDOMAIN):
            return answer
        answer, lives = kept(answer, key[-5] << 8 | key[-4], self._settings)  # the type: see _SUFFIX
        fresh_until = answer.born + lives
        if fresh_until > now:
            octets, chain = _packed(answer, fresh_until), answer.chain
            self._entries.put(key, _Chained(octets, chain) if chain else octets)
            if self._others is not None and not key[-1]:
                self._others.put(key, answer, octets, fresh_until)
        else:
            self._entries.discard(key)
        return answer

    def discard(self, key: Key) -> None:
        """Forget the answer to this question."""
        self._entries.discard(key)

    def clear(self) -> None:
        """Forget everything; others too."""
        self._entries.clear()
        if self._others is not None:
            self._others.clear()


def _octets_of(key: Key, entry: _Entry) -> int:
    """Of those with a chain; others are octets alone."""
    assert not isinstance(entry, bytes)
    return _SLOT + len(key) + len(entry.packed) + _CHAINED + 8 * len(entry.chain)


def unpacked(octets: bytes, born: float) -> Answer:
    """The answer of what `Others` are told, born at this monotonic time. Raises msgspec.DecodeError for other octets."""
    return msgspec.structs.replace(_unpacked(_decode(octets), ()), born=born)


def _packed(answer: Answer, fresh_until: float) -> bytes:
    return _encode(
        _Packed(
            answer.born,
            fresh_until,
            answer.rcode,
            answer.security,
            answer.upstream,
            answer.transport,
            tuple([(ede.code, ede.text) for ede in answer.ede]) if answer.ede else (),
            answer.answer,
            answer.authority,
        )
    )


def _unpacked(packed: _Packed, chain: tuple[Link, ...]) -> Answer:
    return Answer(
        packed.rcode,
        packed.answer,
        packed.authority,
        packed.security,
        tuple([Ede(*ede) for ede in packed.ede]),
        packed.born,
        source=Source.CACHE,
        upstream=packed.upstream,
        transport=packed.transport,
        chain=chain,
    )
