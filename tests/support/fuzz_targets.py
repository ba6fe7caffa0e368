"""What is fuzzed. Each target takes octets and raises nothing, whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from fuzzed import Bench

from dohproxy.dnssec.keys import Key
from dohproxy.errors import MalformedMessage
from dohproxy.wire.message import parse_message_untrusted
from dohproxy.wire.peek import peek_untrusted
from dohproxy.wire.request import parse_request_untrusted

Target = Callable[[bytes], None]


def message() -> Target:
    """The parsers of what comes from upstreams and from clients."""

    def run(data: bytes) -> None:
        for parse in (parse_message_untrusted, parse_request_untrusted, peek_untrusted):
            with suppress(MalformedMessage):
                parse(data)

    return run


def validator() -> Target:
    """The validator with one answer replaced: nothing is secure but the truth."""
    return Bench().check


def proofs() -> Target:
    """The same where every signature is good, so that what is signed can be anything: only clean verdicts."""
    bench = Bench()

    def run(data: bytes) -> None:
        honest, Key.verifies = Key.verifies, lambda *_: True  # type: ignore[method-assign, assignment]
        try:
            bench.play(data)
        finally:
            Key.verifies = honest  # type: ignore[method-assign]

    return run


TARGETS: dict[str, Callable[[], Target]] = {"message": message, "validator": validator, "proofs": proofs}
