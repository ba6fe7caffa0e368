"""The evidence log: verdicts as records that anybody can check, one line each. docs/evidence.md explains it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from dohproxy.config.settings import Settings
from dohproxy.dnssec.evidence import lost_line
from dohproxy.model import INTERNAL, Attestation, Client, Mode, Outcome, Security, Verdict
from dohproxy.telemetry.counters import Counters
from dohproxy.telemetry.journal import Journal
from dohproxy.telemetry.querylog import told_address

FAILURES: Final = frozenset((Security.BOGUS, Security.INDETERMINATE))
ALL: Final = FAILURES | {Security.SECURE, Security.INSECURE}
_KEPT: Final[Mapping[str, frozenset[Security]]] = MappingProxyType({"off": frozenset(), "failures": FAILURES, "all": ALL})
_NONE: Final[frozenset[Security]] = frozenset()


class EvidenceLog:
    """Writes the evidence of verdicts, by the level of the policy group that they were made for; an observer.

    It tells the validator what to keep evidence of, and writes it once the outcome is known, with the decision of policy.
    """

    def __init__(self, settings: Settings, counters: Counters, wall: Callable[[], float] = time.time) -> None:
        self._counters, self._wall = counters, wall
        self._journal: Journal | None = None
        self._where: tuple[Path | None, int] = None, 0
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Write as these settings have it from now on."""
        self._settings = settings
        evidence = settings.evidence
        self._general = _KEPT[evidence.write]
        self._groups = {group.name: _KEPT[group.evidence or evidence.write] for group in settings.policy.groups}
        self._strict = _strict_groups(settings)
        self.active = evidence.file is not None and any((self._general, *self._groups.values()))
        where = evidence.file, evidence.max_size
        if self._journal is not None and (not self.active or self._where != where):
            self.close(0.0)
        self._where = where

    def close(self, patience: float = 0.5) -> None:
        """Write no more than what waits, and wait for that for at most `patience` seconds."""
        if self._journal is not None:
            self._journal.close(patience)
            self._journal = None

    # What the validator asks

    def wants(self, client: Client, security: Security) -> bool:
        """Whether evidence of this verdict, made on behalf of this client, is to be kept."""
        if not self.active:
            return False
        level = self._level(client)
        if security is Security.INSECURE and level and client is not INTERNAL and client.group in self._strict:
            return True  # it may be refused
        return security in level

    def record(self, attestation: Attestation) -> None:
        """Write the evidence of a verdict that no client waits for."""
        self._put(attestation, "", None)

    # What the front tells

    def observe(self, outcome: Outcome) -> None:
        """Write the evidence of the verdict, if one was made for this very query and is to be kept."""
        attestation = outcome.evidence
        if attestation is None or attestation.client is not outcome.client:
            return
        refused = outcome.source is None
        if attestation.security in self._level(outcome.client) or refused:
            self._put(attestation, told_address(outcome.client.address, self._settings.log.clients), outcome.verdict)

    def _level(self, client: Client) -> frozenset[Security]:
        return self._general if client is INTERNAL else self._groups.get(client.group, _NONE)

    def _put(self, attestation: Attestation, address: str, verdict: Verdict | None) -> None:
        if self._journal is None:
            self._journal = self._open()
        if self._journal is not None:
            self._counters.evidence += 1
            self._journal.put(attestation.written(self._wall(), address, verdict))

    def _open(self) -> Journal | None:
        file, size = self._where
        if file is None or not self.active:
            return None
        journal = Journal(file, size, lost_line, self._count_loss)
        journal.start()
        return journal

    def _count_loss(self, lines: int) -> None:
        self._counters.evidence_lost += lines


def _strict_groups(settings: Settings) -> frozenset[str]:
    """The groups for which an insecure answer may be a failure too."""
    modes = [settings.dnssec.mode, *(zone.mode for zone in settings.zones)]
    anywhere = Mode.REQUIRE_SECURE in modes
    return frozenset(group.name for group in settings.policy.groups if anywhere or group.mode is Mode.REQUIRE_SECURE)
