"""What one client question may cost, and what it has cost so far (KeyTrap CVE-2023-50387, NSEC3 CVE-2023-50868)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from dohproxy.errors import BudgetExhausted


class Cost(Enum):
    """What is counted; the value is its name in messages and metrics."""

    SIGNATURES = "signatures"
    """Signatures tried."""
    FAILURES = "failed signatures"
    """Those of them that did not verify: an honest zone has hardly any."""
    COLLISIONS = "key tag collisions"
    """Signatures tried with a second, third … key of the same tag and algorithm."""
    DIGESTS = "DS digests"
    HASHES = "NSEC3 hashes"
    """Names hashed, each with all its iterations."""
    FETCHES = "fetches"
    """Questions asked for the sake of validation."""
    ALIASES = "aliases"
    """CNAMEs and DNAMEs followed."""

    __hash__ = object.__hash__  # they are counted often; an enumeration's own is slow, and says no more


DEFAULT_LIMITS: Mapping[Cost, int] = MappingProxyType(
    {
        Cost.SIGNATURES: 128,
        Cost.FAILURES: 16,
        Cost.COLLISIONS: 8,
        Cost.DIGESTS: 64,
        Cost.HASHES: 256,
        Cost.FETCHES: 96,
        Cost.ALIASES: 16,
    }
)
"""Ample for eleven aliases through five signed zones each; at most some 20 ms of CPU with ECDSA P-256."""
_NOTHING: Final = dict.fromkeys(Cost, 0)


class Budget:
    """Counts what is spent on one question; spending beyond a limit raises BudgetExhausted, and nothing is spent."""

    __slots__ = ("exhausted", "hashes", "limits", "spent")

    def __init__(self, limits: Mapping[Cost, int] = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self.spent = _NOTHING.copy()
        self.exhausted: Cost | None = None
        """The first limit that was met, for telemetry."""
        self.hashes: dict[tuple[bytes, bytes, int], bytes] = {}
        """NSEC3 hashes paid for, by name, salt and iterations: none is computed twice for one question."""

    def spend(self, cost: Cost, count: int = 1) -> None:
        """Note that `count` more are about to be spent; raises BudgetExhausted."""
        total = self.spent[cost] + count
        if total > self.limits[cost]:
            self.exhausted = self.exhausted or cost
            raise BudgetExhausted(f"validation budget exhausted: {cost.value}")
        self.spent[cost] = total
