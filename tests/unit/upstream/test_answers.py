"""What of a reply is an answer, and whom a zone's servers want to be told of errors (RFC 9567 5)."""

from __future__ import annotations

import dns.edns
import dns.message
import dns.rrset
import pytest

from dohproxy.model import Transport
from dohproxy.upstream.answers import answer_from
from dohproxy.wire.constants import OPTION_EDE, OPTION_REPORT_CHANNEL
from dohproxy.wire.names import from_text, to_text

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


def owners(*records: str) -> list[str]:
    """Of the RRsets that are left of a reply with these, as `owner class type rdata`, to www.example. A."""
    reply = dns.message.make_response(dns.message.make_query("www.example.", "A"))
    for record in records:
        owner, rdclass, rdtype, rdata = record.split(" ", 3)
        reply.answer.append(dns.rrset.from_text(owner, 300, rdclass, rdtype, rdata))
    return [to_text(rrset.owner) for rrset in answer_from(reply.to_wire(), "one", Transport.DOT, 0.0).answer]


def test_what_nobody_asked_for_is_no_answer() -> None:
    assert owners("WWW.example. IN A 192.0.2.1", "bank.example. IN A 192.0.2.66") == ["www.example."]
    assert owners("bank.example. IN A 192.0.2.66", "a.b. IN CNAME bank.example.") == []
    assert owners("www.example. CH TXT x", "www.example. IN A 192.0.2.1") == ["www.example."]


def test_aliases_lead_on_in_any_order() -> None:
    chain = ["c. IN A 192.0.2.1", "b. IN CNAME C.", "www.example. IN CNAME b.", "bank.example. IN A 192.0.2.66"]
    assert owners(*chain) == ["c.", "b.", "www.example."]
    assert owners("www.example. IN CNAME b.", "b. IN CNAME www.example.") == ["www.example.", "b."]


def test_a_dname_above_any_of_them_belongs_to_the_answer() -> None:
    dname = ["example. IN DNAME other.", "www.example. IN CNAME www.other.", "bank. IN DNAME evil."]
    assert owners(*dname) == ["example.", "www.example."]
