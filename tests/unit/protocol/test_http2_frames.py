from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.http2_frames import GoawaySifter

PING = PingFrame(0, opaque_data=b"12345678").serialize()
DATA = DataFrame(1, data=b"x" * 100).serialize()


def goaway(last: int, debug: bytes = b"") -> bytes:
    return GoAwayFrame(0, last_stream_id=last, additional_data=debug).serialize()


@pytest.mark.parametrize("size", [1, 2, 7, 9, 10, 1000])
def test_all_but_goaway_passes_whatever_the_pieces(size: int) -> None:
    octets = PING + goaway(9, b"bye") + DATA + goaway(5) + PING
    sifter = GoawaySifter()
    passed = b"".join(sifter.receive_untrusted(octets[at : at + size]) for at in range(0, len(octets), size))
    assert passed == PING + DATA + PING
    assert sifter.last_stream == 5


def test_a_later_goaway_may_only_lower_the_last_stream() -> None:
    sifter = GoawaySifter()
    assert sifter.last_stream is None
    sifter.receive_untrusted(goaway(3) + goaway(7))
    assert sifter.last_stream == 3


@pytest.mark.parametrize("octets", [b"\0\0\4\7\0\0\0\0\0\0\0\0\0", b"\0\x40\1\0\0\0\0\0\1"])
def test_a_frame_that_is_too_short_or_too_large(octets: bytes) -> None:
    with pytest.raises(MalformedMessage):
        GoawaySifter().receive_untrusted(octets)
