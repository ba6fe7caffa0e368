import dns.edns
import dns.message
import pytest

from dohproxy.model import Answer, RRset
from dohproxy.wire.keepalive import wants_keepalive, with_keepalive
from dohproxy.wire.names import from_text
from dohproxy.wire.padding import BLOCK, padded
from dohproxy.wire.reply import compile_reply
from dohproxy.wire.request import parse_request_untrusted

ASKS = dns.edns.GenericOption(11, b"")


def query(*options, use_edns=0):
    return dns.message.make_query("www.example", "A", use_edns=use_edns, options=list(options) or None).to_wire()


def reply_to(wire, count=1):
    addresses = RRset(from_text("www.example"), 1, 300, tuple(bytes((192, 0, n >> 8, n & 255)) for n in range(count)))
    return compile_reply(Answer(0, (addresses,)), parse_request_untrusted(wire)).wire


@pytest.mark.parametrize(
    ("wire", "wants"),
    [
        (query(ASKS), True),
        (query(dns.edns.GenericOption(10, b"8 octets"), ASKS), True),
        (query(), False),
        (query(use_edns=-1), False),
        (query(dns.edns.GenericOption(11, b"\0\x64")), False),
        (query(dns.edns.GenericOption(10, b"\0\x0b\0\0abcd")), False),
        (query(ASKS)[:-1], False),
        (b"", False),
    ],
)
def test_who_asks_by_the_option_without_a_time_wants_to_know(wire, wants):
    assert wants_keepalive(wire) is wants


@pytest.mark.parametrize(("seconds", "units"), [(10.0, 100), (0.25, 2), (0.0, 0), (86400.0, 65535)])
def test_the_time_is_told_in_tenths_of_seconds(seconds, units):
    reply = reply_to(query(ASKS))
    told = dns.message.from_wire(with_keepalive(reply, seconds))
    assert [(option.otype, option.to_wire()) for option in told.options] == [(11, units.to_bytes(2))]
    assert told.answer == dns.message.from_wire(reply).answer


def test_padding_comes_last():
    full = padded(with_keepalive(reply_to(query(ASKS)), 10))
    assert len(full) == BLOCK and [option.otype for option in dns.message.from_wire(full).options] == [11, 12]


@pytest.mark.parametrize("reply", [reply_to(query(use_edns=-1)), reply_to(query(ASKS), 4094)])
def test_where_there_is_no_room_for_it_the_reply_stays_as_it_is(reply):
    assert with_keepalive(reply, 10) == reply


def test_where_opt_is_not_the_last_record_the_reply_stays_as_it_is():
    reply = reply_to(query(ASKS))
    other = b"\0\0\1\0\1\0\0\0\0\0\4\1\2\3\4"
    assert reply[10:12] == b"\0\1"
    more = reply[:10] + b"\0\2" + reply[12:] + other
    assert with_keepalive(more, 10) == more
