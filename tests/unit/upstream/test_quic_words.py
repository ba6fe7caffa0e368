"""Why a QUIC connection ended, in words."""

from __future__ import annotations

from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import AlertDescription

from dohproxy.upstream.quic import in_words

PINS = "none of its chain is pinned; it has " + ", ".join(f"sha256/{letter * 43}=" for letter in "AbC")


def ended(words: str) -> ConnectionTerminated:
    return ConnectionTerminated(QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate, QuicFrameType.CRYPTO, words)


def test_pins_that_a_server_has_are_told_whole_and_in_their_case() -> None:
    assert in_words(ended(PINS), ours=True) == f"its certificate is refused: {PINS}"


def test_a_servers_words_are_not_believed_to_be_short() -> None:
    told = in_words(ConnectionTerminated(7, None, "Go\x1b[31m away " * 99), ours=False)
    assert len(told) == 100 and told.startswith("go[31m away")
