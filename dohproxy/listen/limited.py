"""Datagrams of clients that ask too often."""

from __future__ import annotations

from dohproxy.core.pure import Payer
from dohproxy.errors import MalformedMessage
from dohproxy.policy.rates import Charge, Rates
from dohproxy.telemetry.counters import Counters
from dohproxy.wire.reply import truncated_reply_for
from dohproxy.wire.request import parse_request_untrusted


class Limited:
    """Has clients pay for their queries, and makes the replies to those that cannot: a Limit."""

    def __init__(self, rates: Rates, counters: Counters) -> None:
        self._rates, self._counters = rates, counters

    @property
    def era(self) -> int:
        """Another one as soon as some clients are forgotten."""
        return self._rates.era

    def payer(self, host: str) -> Payer:
        """What the client at this address pays with, a charge being 0 if it is within its rate."""
        return self._rates.bucket(host).pay

    def refusal(self, wire: bytes, charge: int) -> bytes:
        """The reply to a query that is not paid for, truncated, or b"" for silence; counted."""
        self._counters.limited += 1
        return self._slip(wire) if charge == Charge.TRUNCATE else b""

    def _slip(self, wire: bytes) -> bytes:
        try:
            reply = truncated_reply_for(parse_request_untrusted(wire))
        except MalformedMessage:
            return b""
        self._counters.slipped += 1
        return reply
