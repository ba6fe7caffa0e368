"""Header blocks that are remembered mean what hpack says that they mean."""

from contextlib import suppress
from sys import getsizeof

import pytest
from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.doh_request import MOST_HEADERS, Response, head_untrusted
from dohproxy.protocol.header_blocks import NO_TABLE, RequestDecoder, ResponseDecoder, Undecodable, response_block

PATHS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=300).map(lambda text: b"/" + text.encode())
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST"])
OTHERS = st.sampled_from([[], [(b"accept", b"*/*")], [(b"accept", b"application/dns-message"), (b"x-very-rare", b"1" * 50)]])


class Both:
    """Our decoder beside hpack's, which remembers nothing."""

    def __init__(self):
        self.ours, self.theirs = RequestDecoder(), Decoder(MOST_HEADERS)

    def read(self, block):
        ours = theirs = None
        with suppress(MalformedMessage):
            ours = self.ours.head_untrusted(block)
        with suppress(HPACKError, MalformedMessage):
            theirs = head_untrusted(self.theirs.decode(block, raw=True))
        return ours, theirs


def headers(method, path, others, *, indexed):
    shown = (b":path", path) if indexed else NeverIndexedHeaderTuple(b":path", path)
    return [(b":method", method), shown, (b":scheme", b"https"), (b":authority", b"proxy.test"), *others]


REQUESTS = st.lists(st.tuples(METHODS, PATHS, OTHERS, st.booleans(), st.booleans()), min_size=1, max_size=12)


@given(REQUESTS)
def test_what_clients_send_means_the_same(requests):
    both, encoder = Both(), Encoder()
    for method, path, others, indexed, huffman in [*requests, *requests]:
        ours, theirs = both.read(encoder.encode(headers(method, path, others, indexed=indexed), huffman=huffman))
        assert ours == theirs and ours.target == path


@given(REQUESTS, st.integers(0, 400), st.integers(0, 255))
def test_what_is_damaged_is_never_taken_for_something_else(requests, at, value):
    both, encoder = Both(), Encoder()
    blocks = [
        encoder.encode(headers(*request[:3], indexed=request[3]), huffman=request[4]) for request in [*requests, *requests]
    ]
    last = bytearray(blocks[-1])
    last[at % len(last)] = value
    for block in blocks[:-1]:
        both.read(block)
    ours, theirs = both.read(bytes(last))
    assert ours is None or ours == theirs


def test_paths_that_differ_are_read_without_the_rest():
    decoder, encoder = RequestDecoder(), Encoder()
    blocks = [encoder.encode(headers(b"GET", b"/%d" % n, [], indexed=False)) for n in range(1000)]
    assert [decoder.head_untrusted(block).target for block in blocks] == [b"/%d" % n for n in range(1000)]
    assert len(decoder._around) <= 2 and len(decoder._known) <= 2


@pytest.mark.parametrize("path", [b"", b"x", b"/a b", b"/\0", b"/\x7f", b"/\xff"])
def test_a_path_that_is_none_goes_the_long_way(path):
    both, encoder = Both(), Encoder()
    for shown in (b"/1", b"/2", b"/3"):
        both.read(encoder.encode(headers(b"GET", shown, [], indexed=False)))
    ours, theirs = both.read(encoder.encode(headers(b"GET", path, [], indexed=False)))
    assert ours is None or ours == theirs


def test_responses_need_no_table():
    fields = Response(200, b"x" * 70, b"application/dns-message", 300).fields
    decoder = Decoder()
    assert tuple(decoder.decode(NO_TABLE + response_block(fields), raw=True)) == fields
    assert decoder.decode(response_block(fields), raw=True) == list(fields)
    assert len(decoder.header_table.dynamic_entries) == 0


UNINDEXED = b"\x10"
"""Ahead of a name and a value that are not to be entered into the table (RFC 7541 6.2.3)."""


def remembered(decoder):
    """Octets that are kept for blocks that may come again."""
    return sum(getsizeof(key) + sum(map(getsizeof, means)) for key, means in decoder._known.items())


def large(n):
    """A value of eight thousand octets, with its length, unlike all others."""
    return b"\x7f\xc1\x3d" + b"%08d" % n * 1000


def test_large_requests_are_not_remembered():
    decoder = RequestDecoder()
    for n in range(200):
        decoder.head_untrusted(b"\x82\x87\x84" + UNINDEXED + b"\x0a:authority\1a" + UNINDEXED + b"\3foo" + large(n))
        decoder.head_untrusted(b"\x82\x87\x04" + large(n).replace(b"00", b"/0", 1) + UNINDEXED + b"\x0a:authority\1a")
    assert remembered(decoder) < 1000


def test_large_responses_are_not_remembered():
    decoder = ResponseDecoder(65536)
    for n in range(200):
        assert decoder.head_untrusted(b"\x88" + UNINDEXED + b"\7alt-svc" + large(n)).alt_svc == b"%08d" % n * 1000
    assert not decoder._known


def test_small_ones_are_remembered_up_to_a_number():
    decoder = ResponseDecoder(65536)
    for n in range(1000):
        block = b"\x88" + UNINDEXED + b"\3age\4%04d" % n
        assert decoder.head_untrusted(block).age == decoder.head_untrusted(block).age == n
        assert 0 < len(decoder._known) <= 256


EMPTIED, WHOLE_AGAIN = b"\x20", b"\x3f\xe1\x1f"
"""A table of no octets, and one of 4096 (RFC 7541 6.3)."""
AGE_ADDED, AGE_OF_TABLE = b"\x88\x40\3age\0012", b"\x88\xbe"


@pytest.mark.parametrize("last", [b"\x89", b"\x88"])
def test_a_block_that_resizes_the_table_does_so_each_time(last):
    ours, theirs = ResponseDecoder(65536), Decoder()
    blocks = [EMPTIED + b"\x88", WHOLE_AGAIN + b"\x88", EMPTIED + last, WHOLE_AGAIN + b"\x88", AGE_ADDED, AGE_OF_TABLE]
    for block in blocks:
        age = dict(theirs.decode(block, raw=True)).get(b"age", b"0")
        assert ours.head_untrusted(block).age == int(age)
    assert age == b"2"


def test_what_referred_to_a_table_that_was_emptied_is_an_error():
    ours = ResponseDecoder(65536)
    ours.head_untrusted(AGE_ADDED)
    assert ours.head_untrusted(AGE_OF_TABLE).age == ours.head_untrusted(AGE_OF_TABLE).age == 2
    ours.head_untrusted(EMPTIED + b"\x88")
    with pytest.raises(Undecodable):
        ours.head_untrusted(AGE_OF_TABLE)


def test_a_request_that_referred_to_a_table_that_was_emptied_is_an_error():
    ours, ahead = RequestDecoder(), b"\x82\x87\x84\x01\1a"
    ours.head_untrusted(ahead + b"\x40\x0ccontent-type\1a")
    assert ours.head_untrusted(ahead + b"\xbe").media == ours.head_untrusted(ahead + b"\xbe").media == b"a"
    ours.head_untrusted(EMPTIED + ahead)
    with pytest.raises(Undecodable):
        ours.head_untrusted(ahead + b"\xbe")
