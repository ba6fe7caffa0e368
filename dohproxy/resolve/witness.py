"""What evidence of verdicts is made of: messages of chains of trust, kept for when the validator need not ask for them."""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from dohproxy.cache.bounded import SLOT, Bounded, bytes_size
from dohproxy.dnssec.chain import BOGUS_TIME, MAX_TRUST, Fetched, Need
from dohproxy.model import Answer, Attestation, Client, RRset, Security

MAX_OCTETS: Final = 16 << 20
"""Of messages kept: some ten thousand."""
_MESSAGE: Final = 512
_RRSET: Final = 300
_POINTER: Final = 8

Key = tuple[Need, tuple[str, ...]]
"""What was asked, and the upstreams that were to be avoided."""


class Recorder(Protocol):
    """Who keeps evidence, and of what."""

    @property
    def active(self) -> bool:
        """Whether any evidence is wanted now."""
        ...

    def wants(self, client: Client, security: Security) -> bool:
        """Whether evidence of this verdict, made on behalf of this client, is to be kept."""
        ...

    def record(self, attestation: Attestation) -> None:
        """Keep the evidence of a verdict that no client waits for; must neither block nor raise."""
        ...


class _Told(Struct, frozen=True, gc=False):
    message: Answer
    until: float


class Witness:
    """Remembers the messages that trust was built on about as long as the validator remembers the trust."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._told: Bounded[Key, _Told] = Bounded(MAX_OCTETS, _octets_of)

    def hear(self, need: Need, avoid: tuple[str, ...], fetched: Fetched, now: float) -> None:
        """Remember what was told now, if that is a message."""
        if isinstance(fetched, Answer) and self.recorder.active:
            ttl = min((rrset.ttl for rrset in (*fetched.answer, *fetched.authority)), default=0)
            until = max(fetched.born + min(ttl, MAX_TRUST), now + BOGUS_TIME)
            self._told.put((need, avoid), _Told(fetched, until))

    def recall(self, need: Need, avoid: tuple[str, ...], now: float) -> Answer | None:
        """What was told, by the upstreams that were asked here, or else by all of them; None if that is too old."""
        for key in ((need, avoid), (need, ())):
            told = self._told.get(key)
            if told is not None and now < told.until:
                return told.message
        return None


def _octets_of(_: Key, told: _Told) -> int:
    return SLOT + _MESSAGE + sum(map(_rrset_size, (*told.message.answer, *told.message.authority)))


def _rrset_size(rrset: RRset) -> int:
    return _RRSET + sum(_POINTER + bytes_size(rdata) for rdata in rrset.rdatas + rrset.signatures)
