"""Datagrams of clients that ask too often."""

from __future__ import annotations

from dohproxy.errors import MalformedMessage
from dohproxy.policy.rates import Charge, Rates
from dohproxy.telemetry.counters import Counters
from dohproxy.wire.reply import truncated_reply_for
from dohproxy.wire.request import parse_request_untrusted

_PASS = Charge.PASS  # here: an enumeration looks its members up slowly


class Limited:
    """Has clients pay for their queries, and tells what those that cannot are replied: a Limit."""

    def __init__(self, rates: Rates, counters: Counters) -> None:
        self._charge, self._counters = rates.charge, counters

    def __call__(self, wire: bytes, host: str, now: float) -> bytes | None:
        """None if the client is within its rate; else the reply, truncated, or b"" for silence."""
        charge = self._charge(host, now)
        if charge is _PASS:
            return None
        self._counters.limited += 1
        return self._slip(wire) if charge is Charge.TRUNCATE else b""

    def _slip(self, wire: bytes) -> bytes:
        try:
            reply = truncated_reply_for(parse_request_untrusted(wire))
        except MalformedMessage:
            return b""
        self._counters.slipped += 1
        return reply
