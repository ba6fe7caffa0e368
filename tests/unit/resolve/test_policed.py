from __future__ import annotations

from ipaddress import ip_network

import pytest
from stages import Canned, answer, query

from dohproxy.config.settings import Place, Policy, PolicyGroup, PolicyRule
from dohproxy.errors import ValidationFailed
from dohproxy.model import Action, Client, Ede, Mode, Security, Source, Transport
from dohproxy.policy.engine import Engine
from dohproxy.resolve.policed import Policed
from dohproxy.wire import names

EXPIRED = Ede(7, "RRSIG expired")
BOGUS = {"security": Security.BOGUS, "ede": (EXPIRED,)}


def rules(*texts: str) -> tuple[PolicyRule, ...]:
    return tuple(PolicyRule(text, Place("x.toml", 1)) for text in texts)


PAYMENTS = PolicyGroup(
    "payments",
    clients=(ip_network("10.1.0.0/16"),),
    default=Action.NXDOMAIN,
    allow=rules("*.bank.example", "ledger.cluster.local"),
    mode=Mode.REQUIRE_SECURE,
)
CLUSTER = names.from_text("cluster.local")


def policed(canned: Canned, mode: Mode = Mode.VALIDATE, group: PolicyGroup | None = None, **zones: Mode) -> Policed:
    engine = Engine(Policy(groups=(PAYMENTS, group or PolicyGroup("default"))), {})
    return Policed(canned, engine, mode=mode, modes={CLUSTER: Mode.OFF}, zones=frozenset({CLUSTER}), now=lambda: 7.0)


def of(group: str) -> Client:
    return Client("10.1.2.3", Transport.UDP, group)


async def test_a_blocked_question_is_asked_nowhere(canned: Canned) -> None:
    got = await policed(canned).resolve(query("www.example", client=of("payments")))
    assert (got.rcode, got.source, got.born) == (3, Source.POLICY, 7.0)
    assert got.verdict is not None
    assert got.verdict.rule.text == 'default = "deny"'
    assert canned.asked == []


@pytest.mark.parametrize("security", [Security.BOGUS, Security.INDETERMINATE])
async def test_what_did_not_validate_is_not_relayed(canned: Canned, security: Security) -> None:
    canned.on("www.example", answer("www.example. 60 A 192.0.2.1", security=security, ede=(EXPIRED,)))
    with pytest.raises(ValidationFailed) as caught:
        await policed(canned).resolve(query("www.example"))
    assert (caught.value.edes, caught.value.security) == ((EXPIRED,), security)


async def test_bogus_data_is_never_rewritten_into_an_answer(canned: Canned) -> None:
    sinkhole = PolicyGroup(
        "default", deny_action=Action.SINKHOLE, sinkhole=("192.0.2.9",), deny_addresses=(ip_network("10.0.0.0/8"),)
    )
    canned.on("www.example", answer("www.example. 60 A 10.0.0.1", **BOGUS))
    with pytest.raises(ValidationFailed):
        await policed(canned, group=sinkhole).resolve(query("www.example"))


async def test_log_only_relays_what_did_not_validate_and_says_so(canned: Canned) -> None:
    canned.on("www.example", answer("www.example. 60 A 192.0.2.1", **BOGUS))
    got = await policed(canned, Mode.LOG_ONLY).resolve(query("www.example"))
    assert (got.rcode, got.security, got.ede) == (0, Security.BOGUS, (EXPIRED,))


async def test_off_asks_without_checking(canned: Canned) -> None:
    canned.on("www.example", answer("www.example. 60 A 192.0.2.1"))
    await policed(canned, Mode.OFF).resolve(query("www.example"))
    assert canned.asked[0].cd


async def test_cd_is_the_client_s_to_set_but_not_around_require_secure(canned: Canned) -> None:
    canned.on("www.bank.example", answer("www.bank.example. 60 A 192.0.2.1", **BOGUS))
    assert (await policed(canned).resolve(query("www.bank.example", cd=True))).rcode == 0
    with pytest.raises(ValidationFailed):
        await policed(canned).resolve(query("www.bank.example", cd=True, client=of("payments")))
    assert [asked.cd for asked in canned.asked] == [True, False]


@pytest.mark.parametrize("security", [Security.INSECURE, Security.UNCHECKED])
async def test_require_secure_refuses_what_is_not(canned: Canned, security: Security) -> None:
    canned.on("www.bank.example", answer("www.bank.example. 60 A 192.0.2.1", security=security, ede=(Ede(2, "digest"),)))
    with pytest.raises(ValidationFailed, match="only secure answers") as caught:
        await policed(canned).resolve(query("www.bank.example", client=of("payments")))
    assert [ede.code for ede in caught.value.edes] == [0, 2]


async def test_a_zone_s_mode_goes_before_the_group_s(canned: Canned) -> None:
    canned.on("ledger.cluster.local", answer("ledger.cluster.local. 60 A 10.0.0.1"))
    got = await policed(canned).resolve(query("ledger.cluster.local", client=of("payments")))
    assert got.rcode == 0
    assert got.verdict is not None
    assert got.verdict.action is Action.ALLOW


async def test_private_addresses_are_for_zones_of_one_s_own(canned: Canned) -> None:
    canned.on("www.example", answer("www.example. 60 A 10.0.0.1", security=Security.INSECURE))
    canned.on("www.cluster.local", answer("www.cluster.local. 60 A 10.0.0.1"))
    blocked = await policed(canned).resolve(query("www.example"))
    assert (blocked.rcode, blocked.source) == (3, Source.POLICY)
    assert "rebinding" in blocked.ede[0].text
    assert (await policed(canned).resolve(query("www.cluster.local"))).source is Source.UPSTREAM


async def test_local_answers_pass_as_they_are(canned: Canned) -> None:
    local = answer("localhost. 60 A 127.0.0.1", source=Source.LOCAL, security=Security.INSECURE)
    canned.on("localhost", local)
    assert await policed(canned, Mode.REQUIRE_SECURE).resolve(query("localhost")) is local


@pytest.mark.parametrize("cd", [True, False])
async def test_where_nothing_is_validated_cd_is_for_the_upstream(canned: Canned, cd: bool) -> None:
    engine = Engine(Policy(groups=(PolicyGroup("default"),)), {})
    stage = Policed(canned, engine, mode=Mode.OFF, modes={CLUSTER: Mode.OFF}, zones=frozenset({CLUSTER}), now=lambda: 7.0)
    canned.on("www.example", answer("www.example. 60 A 192.0.2.1"))
    await stage.resolve(query("www.example", cd=cd))
    assert [asked.cd for asked in canned.asked] == [cd]
