"""Whom a zone's servers want to be told of errors (RFC 9567 5)."""

from __future__ import annotations

import dns.edns
import dns.message
import pytest

from dohproxy.model import Transport
from dohproxy.upstream.answers import answer_from
from dohproxy.wire.constants import OPTION_EDE, OPTION_REPORT_CHANNEL
from dohproxy.wire.names import from_text

AGENT = b"\x02An\x05agent\x00"


def agent(*options: tuple[int, bytes]) -> bytes:
    reply = dns.message.make_response(dns.message.make_query("www.example.", "A", use_edns=0))
    reply.use_edns(0, options=[dns.edns.GenericOption(code, value) for code, value in options])  # type: ignore[arg-type]
    return answer_from(reply.to_wire(), "one", Transport.DOT, 0.0).agent


def test_the_agent_is_told_in_lower_case() -> None:
    assert agent((OPTION_EDE, b"\0\1x"), (OPTION_REPORT_CHANNEL, AGENT)) == from_text("an.agent.")


def test_most_servers_name_none() -> None:
    assert agent() == agent((OPTION_EDE, b"\0\1x")) == b""


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0",
        AGENT + b"\xff" * 30,
        AGENT[:-1],
        AGENT[:-3],
        b"\xc0\x0c",
        b"\x02an\xc0\x00",
        b"\x40" + b"a" * 64 + b"\0",
        b"\1a" * 130 + b"\0",
    ],
    ids=["empty", "root", "trailing", "no end", "cut", "pointer", "compressed", "long label", "long name"],
)
def test_what_is_not_one_name_names_nobody(value: bytes) -> None:
    assert agent((OPTION_REPORT_CHANNEL, value)) == b""
