from __future__ import annotations

import pytest
from policies import SINKHOLE, ask

from dohproxy.model import Action, Ede, Rule, Security, Source, Verdict
from dohproxy.policy.answers import TTL, answer_for
from dohproxy.policy.group import DEFAULT_DENY
from dohproxy.wire.constants import AAAA, EDE_BLOCKED, EDE_FORGED, EDE_PROHIBITED, MX, NOERROR, NXDOMAIN, REFUSED, SOA, A

RULE = Rule("ads.example", 'list "ads"', "/etc/dohproxy/ads.txt", 7)


@pytest.mark.parametrize(
    ("action", "rcode", "negative"),
    [
        (Action.NXDOMAIN, NXDOMAIN, True),
        (Action.NODATA, NOERROR, True),
        (Action.REFUSED, REFUSED, False),
        (Action.DROP, REFUSED, False),
    ],
)
def test_a_block_is_answered_as_configured(action: Action, rcode: int, negative: bool) -> None:
    verdict = Verdict(action, RULE)
    found = answer_for(verdict, ask("x.ads.example"), 5.0)
    assert (found.rcode, found.answer, found.born, found.verdict) == (rcode, (), 5.0, verdict)
    assert (found.source, found.security) == (Source.POLICY, Security.UNCHECKED)
    assert [(rrset.rdtype, rrset.ttl) for rrset in found.authority] == ([(SOA, TTL)] if negative else [])
    assert found.ede == (Ede(EDE_BLOCKED, 'list "ads": ads.example'),)


def test_the_soa_lets_clients_keep_the_answer_for_its_ttl() -> None:
    (soa,) = answer_for(Verdict(Action.NXDOMAIN, RULE), ask("x.ads.example"), 0.0).authority
    assert soa.owner == ask("x.ads.example").qname and int.from_bytes(soa.rdatas[0][-4:], "big") == TTL


@pytest.mark.parametrize(("qtype", "octets"), [(A, b"\xc0\0\2\x63"), (AAAA, b"\x20\1\x0d\xb8" + b"\0" * 11 + b"\x99")])
def test_a_sinkhole_answers_with_its_addresses(qtype: int, octets: bytes) -> None:
    found = answer_for(Verdict(Action.SINKHOLE, RULE, SINKHOLE), ask("ads.example", qtype), 0.0)
    (rrset,) = found.answer
    assert (found.rcode, rrset.rdtype, rrset.rdatas, rrset.ttl) == (NOERROR, qtype, (octets,), TTL)
    assert found.ede[0].code == EDE_FORGED and found.authority == ()


@pytest.mark.parametrize(("qtype", "addresses"), [(MX, SINKHOLE), (AAAA, SINKHOLE[:1]), (A, ())])
def test_a_sinkhole_has_no_other_data(qtype: int, addresses: tuple[str, ...]) -> None:
    found = answer_for(Verdict(Action.SINKHOLE, RULE, addresses), ask("ads.example", qtype), 0.0)
    assert (found.rcode, found.answer, len(found.authority)) == (NOERROR, (), 1)


def test_what_was_never_allowed_is_prohibited() -> None:
    found = answer_for(Verdict(Action.REFUSED, Rule(DEFAULT_DENY, 'group "payments"', "x.toml", 3)), ask("a.example"), 0.0)
    assert found.ede == (Ede(EDE_PROHIBITED, 'group "payments": default = "deny"'),)


def test_no_file_is_told_to_clients() -> None:
    assert "/etc" not in repr(answer_for(Verdict(Action.NXDOMAIN, RULE), ask("ads.example"), 0.0).ede)
