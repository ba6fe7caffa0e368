import dns.flags
import dns.message
import pytest

from dohproxy.model import Question
from dohproxy.wire import constants as c
from dohproxy.wire.message import parse_message_untrusted
from dohproxy.wire.names import from_text
from dohproxy.wire.query import build_query


@pytest.mark.parametrize(
    "name", [".", "example.com", "a" * 63 + ".example", "a." * 127, *("x" * n + ".test" for n in range(60, 64))]
)
def test_a_query_is_padded_to_a_multiple_and_says_what_it_should(name):
    question = Question(from_text(name), c.AAAA)
    wire = build_query(question, 0x1234, cd=False)
    assert len(wire) % 128 == 0
    assert len(wire) <= 384
    message = dns.message.from_wire(wire)
    assert message.flags == dns.flags.RD
    assert message.ednsflags == dns.flags.DO
    assert message.payload == 1232
    assert [option.otype for option in message.options] == [c.OPTION_PADDING]
    assert parse_message_untrusted(wire).question == question


def test_checking_disabled_and_no_padding():
    wire = build_query(Question(from_text("example"), c.A), 1, cd=True, do=False, rd=False, pad_to=0, payload_size=4096)
    message = dns.message.from_wire(wire)
    assert message.flags == dns.flags.CD
    assert (message.ednsflags, message.payload, message.options) == (0, 4096, ())
