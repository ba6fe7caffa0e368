import dns.edns
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dohproxy.model import Answer, Ede, Question, RRset
from dohproxy.wire.names import from_text
from dohproxy.wire.padding import BLOCK, padded, wants_padding
from dohproxy.wire.query import build_query
from dohproxy.wire.reply import compile_reply, error_reply_for
from dohproxy.wire.request import parse_request_untrusted


def reply_to(query, answer):
    return compile_reply(answer, parse_request_untrusted(query)).wire


def addresses(count, owner="www.example.com"):
    return RRset(from_text(owner), 1, 300, tuple(bytes((192, 0, 2, n)) for n in range(count)))


@pytest.mark.parametrize(("pad_to", "wants"), [(0, False), (128, True)])
def test_who_pads_wants_padding(pad_to, wants):
    assert wants_padding(build_query(Question(from_text("www.example.com"), 1), 7, cd=False, pad_to=pad_to)) is wants


def test_an_option_of_no_octets_asks_too():
    query = dns.message.make_query("example.com", "A", options=[dns.edns.GenericOption(12, b"")])
    assert wants_padding(query.to_wire())


@pytest.mark.parametrize(
    "query",
    [
        b"",
        bytes(12),
        dns.message.make_query("example.com", "CAA").to_wire(),
        dns.message.make_query("\\000\\012\\000.example", "A", use_edns=0).to_wire(),
        dns.message.make_query("example.com", "PTR", options=[dns.edns.GenericOption(10, b"\0\x0c\0\0")]).to_wire(),
    ],
)
def test_the_same_octets_elsewhere_ask_nothing(query):
    assert not wants_padding(query)


@given(st.integers(0, 200), st.lists(st.text(max_size=150), max_size=3))
def test_padded_replies_say_the_same(count, texts):
    query = dns.message.make_query("www.example.com", "A", options=[dns.edns.GenericOption(12, b"")]).to_wire()
    ede = tuple(Ede(3, text) for text in texts)
    authority = (addresses(2, "ns.example.net"),)
    plain = reply_to(query, Answer(0, (addresses(count),) if count else (), authority, ede=ede))
    full = padded(plain)
    assert len(full) % BLOCK == 0 and len(full) - len(plain) < BLOCK + 4
    before, after = dns.message.from_wire(plain), dns.message.from_wire(full)
    assert (after.answer, after.authority, after.flags) == (before.answer, before.authority, before.flags)
    *kept, padding = after.options
    assert kept == list(before.options)
    assert padding.otype == 12 and not any(padding.to_wire())


def test_without_edns_there_is_nowhere_to_pad():
    plain = reply_to(dns.message.make_query("www.example.com", "A", use_edns=False).to_wire(), Answer(0, (addresses(3),)))
    assert padded(plain) == plain


def test_errors_are_padded_too():
    query = build_query(Question(b"\0", 2), 7, cd=False)
    assert len(padded(error_reply_for(parse_request_untrusted(query), 2))) == BLOCK


def test_what_would_be_too_long_stays():
    query = build_query(Question(from_text("www.example.com"), 16), 7, cd=False)
    long = RRset(from_text("www.example.com"), 16, 300, (b"\xff" * 65465,))
    plain = reply_to(query, Answer(0, (long,)))
    assert len(plain) > 65516 and padded(plain) == plain
