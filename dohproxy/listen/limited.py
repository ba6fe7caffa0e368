"""Finished replies for clients that do not ask too often."""

from __future__ import annotations

from dohproxy.core.pure import Recall
from dohproxy.errors import MalformedMessage
from dohproxy.model import Attested, Peer, Transport
from dohproxy.policy.rates import Charge, Rates
from dohproxy.telemetry.counters import Counters
from dohproxy.wire.reply import truncated_reply_for
from dohproxy.wire.request import parse_request_untrusted


class Limited:
    """What `recall` knows, as long as the client is within its rate: a Recall, for datagrams alone."""

    def __init__(self, recall: Recall, rates: Rates, counters: Counters) -> None:
        self.now = recall.now
        self._recall, self._charge, self._counters = recall, rates.charge, counters

    def __call__(self, wire: bytes, peer: Peer, transport: Transport, now: float | None = None) -> bytes | None:
        """The finished reply, if one is at hand; a truncated one, or b"" for silence, if the client is over its rate."""
        charge = self._charge(peer.address if isinstance(peer, Attested) else peer, self.now() if now is None else now)
        if charge is Charge.PASS:
            return self._recall(wire, peer, transport, now)
        self._counters.limited += 1
        return self._slip(wire) if charge is Charge.TRUNCATE else b""

    def _slip(self, wire: bytes) -> bytes:
        try:
            reply = truncated_reply_for(parse_request_untrusted(wire))
        except MalformedMessage:
            return b""
        self._counters.slipped += 1
        return reply
