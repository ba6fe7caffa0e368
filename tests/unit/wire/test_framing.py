import pytest

from dohproxy.errors import MalformedMessage
from dohproxy.wire.framing import Unframer, frame

MESSAGES = [b"a" * 12, b"b" * 300, b"c" * 65535]


@pytest.mark.parametrize("size", [1, 2, 3, 313, 70000])
def test_any_cut_of_the_stream_gives_the_same_messages(size):
    stream, unframer = b"".join(map(frame, MESSAGES)), Unframer()
    found = [m for at in range(0, len(stream), size) for m in unframer.receive_untrusted(stream[at : at + size])]
    assert found == MESSAGES
    assert not unframer.amid_message


def test_a_stream_that_ends_amid_a_message():
    unframer = Unframer()
    assert unframer.receive_untrusted(frame(b"abc")[:-1]) == []
    assert unframer.amid_message
    assert unframer.receive_untrusted(b"c") == [b"abc"]
    assert not unframer.amid_message


def test_no_octets_are_no_message():
    with pytest.raises(MalformedMessage):
        Unframer().receive_untrusted(b"\0\0")


def test_what_does_not_fit_is_our_own_mistake():
    with pytest.raises(ValueError, match="65536"):
        frame(bytes(65536))
