"""What is fuzzed. Each target takes octets and raises nothing, whatever they are."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress

import fuzz_listeners
import fuzz_quic
from fuzzed import Bench

from dohproxy.config.stamps import decode_stamp_untrusted
from dohproxy.dnssec.keys import Key
from dohproxy.errors import MalformedMessage
from dohproxy.identity.der import split_untrusted
from dohproxy.identity.pins import parts_untrusted
from dohproxy.identity.workload_messages import parse_bundles_untrusted, parse_svids_untrusted
from dohproxy.protocol.grpc import StreamingCall
from dohproxy.protocol.odoh import Sealed, hpke_suite, parse_configs_untrusted
from dohproxy.wire.message import parse_message_untrusted
from dohproxy.wire.peek import peek_untrusted
from dohproxy.wire.request import parse_request_untrusted
from dohproxy.wire.svcb import parse_service_untrusted

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


def upstreams() -> Target:
    """The parsers of what names, designates and unlocks upstreams: stamps, SVCB records, keys and answers of oblivious DoH."""
    suite = hpke_suite()
    pair = suite.kem.derive_key_pair(bytes(32))
    _, context = suite.create_sender_context(pair.public_key, b"odoh query", eks=suite.kem.derive_key_pair(b"e" * 32))
    sealed = Sealed(suite, context, b"\0\1q\0\0")

    def stamp(data: bytes) -> object:
        return decode_stamp_untrusted(urlsafe_b64encode(data).decode())

    def stamp_as_text(data: bytes) -> object:
        return decode_stamp_untrusted(data.decode("latin-1"))

    parsers: tuple[Callable[[bytes], object], ...] = (
        stamp,
        stamp_as_text,
        parse_service_untrusted,
        parse_configs_untrusted,
        sealed.open_untrusted,
    )

    def run(data: bytes) -> None:
        for parse in parsers:
            with suppress(MalformedMessage):
                parse(data)

    return run


def identities() -> Target:
    """The parsers of who others are and who we are: certificates that may be pinned, and what a Workload API says."""

    def call(data: bytes) -> object:
        return StreamingCall("/service/method").receive_untrusted(data)

    parsers: tuple[Callable[[bytes], object], ...] = (
        parts_untrusted,
        split_untrusted,
        parse_svids_untrusted,
        parse_bundles_untrusted,
        call,
    )

    def run(data: bytes) -> None:
        for parse in parsers:
            with suppress(MalformedMessage):
                parse(data)

    return run


def listeners() -> Target:
    """What encrypted listeners read besides DNS."""
    return fuzz_listeners.run


def quic() -> Target:
    """What listeners by QUIC read besides DNS, around the library."""
    return fuzz_quic.run


TARGETS: dict[str, Callable[[], Target]] = {
    "message": message,
    "validator": validator,
    "proofs": proofs,
    "upstreams": upstreams,
    "identities": identities,
    "listeners": listeners,
    "quic": quic,
}
