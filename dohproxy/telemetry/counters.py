"""What happened since the start, as plain numbers: cheap enough to be kept on the path of a cache hit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from dohproxy.dnssec.reasons import CLOCK_NOT_SET, NEGATIVE_ANCHOR
from dohproxy.model import Action, Ede, Outcome, Security
from dohproxy.telemetry.tally import told

UNREACHABLE, NETWORK_ERROR = 22, 23
"""EDE INFO-CODEs (RFC 8914 4.23, 4.24) that tell of a failed upstream."""


_INSECURE = Security.INSECURE


class Counters(msgspec.Struct, eq=False):
    """The counters of one process. Listeners count messages, `observe` counts what became of queries."""

    udp_queries: int = 0
    """Datagrams received, whatever they were."""
    tcp_queries: int = 0
    """Messages received over TCP, in clear."""
    dot_queries: int = 0
    """Messages received over TLS."""
    doh_queries: int = 0
    """Requests received over HTTPS, by HTTP/2 and HTTP/1.1."""
    hits: int = 0
    """Answered at once with a finished reply."""
    misses: int = 0
    """Given to the stages; some of them are answered from the answer cache."""
    attested: int = 0
    """Queries of clients with a verified certificate, of those that observers are told of."""
    garbage: int = 0
    """Responses and what no header could be read of: met with silence."""
    silenced: int = 0
    """Readable queries met with silence: dropped by policy or by the access list."""
    shed: int = 0
    """Not taken because too many queries were under way."""
    limited: int = 0
    """Queries of clients over their rate: met with silence, or slipped."""
    slipped: int = 0
    """Those of them that were answered truncated."""
    send_errors: int = 0
    receive_errors: int = 0
    tcp_accepted: int = 0
    tcp_open: int = 0
    tcp_displaced: int = 0
    """Idle connections closed in favour of new ones."""
    tcp_refused: int = 0
    """Connections closed at once, over the limits."""
    tcp_broken: int = 0
    """Connections ended over bad framing, half a message, or a client that does not read."""
    tls_handshakes: int = 0
    """Connections over TLS on which hands were shaken."""
    tls_resumed: int = 0
    """Those of them that resumed a session."""
    tls_failed: int = 0
    """Handshakes that failed, or took too long."""
    doq_queries: int = 0
    """Messages received over QUIC."""
    doh3_queries: int = 0
    """Requests received over HTTP/3."""
    quic_accepted: int = 0
    """Connections begun, whether or not their handshakes ended."""
    quic_open: int = 0
    quic_displaced: int = 0
    """Idle connections closed in favour of new ones."""
    quic_refused: int = 0
    """Connections not begun, over the limits."""
    quic_retried: int = 0
    """Clients asked to show first that their address is their own."""
    quic_broken: int = 0
    """Connections ended over what a client sent, or did not read."""
    quic_strays: int = 0
    """Datagrams that belong to no connection."""
    upstream_failures: int = 0
    """Queries that ended in an error because upstreams failed (EDE 22 and 23)."""
    evidence: int = 0
    """Evidence records given to the writer."""
    evidence_lost: int = 0
    """Those of them that could not be written."""
    rcodes: list[int] = msgspec.field(default_factory=lambda: [0] * 16)
    """Replies sent, by the RCODE in their header."""
    security: Counter[str] = msgspec.field(default_factory=Counter)
    """What validation found, of those that observers are told of: misses, and hits too with a query log."""
    recalled: list[int] = msgspec.field(default_factory=lambda: [0] * len(Security))
    """What it had found of the other hits, in the order of Security."""
    unvalidated: Counter[str] = msgspec.field(default_factory=Counter)
    """Answers let through by a negative anchor, by its name, or by the boot clock."""
    blocked: Counter[str] = msgspec.field(default_factory=Counter)
    """By where the rule stands, such as `list "ads"`."""

    def observe(self, outcome: Outcome) -> None:
        """Count what became of one query."""
        if outcome.client.identity:
            self.attested += 1
        if outcome.rcode < 0:
            self._count_silence(outcome)
        else:
            self.security[outcome.security._value_] += 1  # not `value`: that is a call
        if outcome.security is _INSECURE:  # then the extended errors are our own, and not an upstream's
            self.unvalidated.update(reason for ede in outcome.ede if (reason := _exemption(ede)))
        if outcome.verdict is not None and outcome.verdict.action not in (Action.ALLOW, Action.LOG):
            self.blocked[outcome.verdict.rule.where] += 1
        if outcome.source is None and any(ede.code in (UNREACHABLE, NETWORK_ERROR) for ede in outcome.ede):
            self.upstream_failures += 1

    def _count_silence(self, outcome: Outcome) -> None:
        if outcome.question is None:
            self.garbage += 1
        else:
            self.silenced += 1

    def snapshot(self) -> dict[str, Any]:
        """All counters by name, as values that stay as they are; RCODEs by number, without those that never were."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        recalled = {security.value: count for security, count in zip(Security, found.pop("recalled"), strict=True) if count}
        found["rcodes"] = {str(rcode): count for rcode, count in enumerate(self.rcodes) if count}
        named = ("security", "unvalidated", "blocked")
        return (
            found | {name: dict(getattr(self, name)) for name in named} | {"security": dict(self.security + Counter(recalled))}
        )

    def summary(self) -> str:
        """The counters that are not zero, in one line of `name=number`."""
        return told(self.snapshot())


def _exemption(ede: Ede) -> str:
    """By what an answer was let through unvalidated; "" where this does not tell of that."""
    if ede.text == CLOCK_NOT_SET:
        return "boot clock"
    return ede.text.partition(":")[0] if ede.text.startswith(NEGATIVE_ANCHOR) else ""
