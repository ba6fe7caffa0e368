from __future__ import annotations

import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages import Canned, answer

from dohproxy.cache.replies import ReplyStore
from dohproxy.clock import Clock
from dohproxy.core import KIND
from dohproxy.errors import NoReachableUpstream, ValidationFailed
from dohproxy.front import Front, Generation
from dohproxy.model import Action, Answer, Assurance, Attested, Ede, Outcome, Peer, Query, Rule, Security, Transport, Verdict

recalls = pytest.mark.skipif(KIND == "off", reason="with the core off nothing is recalled")
SOA = "example. 300 SOA ns.example. host.example. 1 2 3 4 300"
HOST, STRANGER = "127.0.0.1", "192.0.2.9"
UDP, TCP = Transport.UDP, Transport.TCP


class Time:
    """Both clocks of a machine that is never asleep."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.clock = Clock(lambda: self.time, lambda: self.time)


class OnlyLoopback:
    def admit(self, peer: Peer) -> str | None:
        return "default" if HOST in (peer, peer[0]) else None


class Notes:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def observe(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class House:
    """A front with a canned pipeline behind it."""

    def __init__(self, silently: bool = False, tell_hits: bool = True) -> None:
        self.clock, self.canned, self.notes = Time(), Canned(), Notes()
        generation = Generation(self.canned, OnlyLoopback(), ReplyStore(1 << 20), silently, 1232, 5.0)
        self.front = Front(generation, (self.notes,), self.clock.clock, tell_hits)

    def at_home(self, *lines: str, **more: object) -> House:
        self.canned.on("www.example", answer(*(lines or ("www.example. 300 A 192.0.2.1",)), born=self.clock.time, **more))
        return self

    async def ask(
        self, message: dns.message.Message | bytes, host: str = HOST, transport: Transport = UDP
    ) -> dns.message.Message:
        wire = message if isinstance(message, bytes) else message.to_wire()
        return dns.message.from_wire(await self.front.answer(wire, host, transport))


def asking(name: str = "www.example.", qtype: str = "A", **more: object) -> dns.message.Message:
    return dns.message.make_query(name, qtype, **more)  # type: ignore[arg-type]


def edes(reply: dns.message.Message) -> list[int]:
    return [int(option.code) for option in reply.options if option.otype == 15]  # type: ignore[attr-defined]


@pytest.fixture
def house() -> House:
    return House().at_home()


@recalls
async def test_an_answer_is_recalled_without_the_pipeline(house: House) -> None:
    query = asking(use_edns=0)
    assert house.front.recall(query.to_wire(), HOST, UDP) is None
    first = await house.front.answer(query.to_wire(), HOST, UDP)
    assert house.front.recall(query.to_wire(), HOST, UDP) == first
    assert len(house.canned.asked) == 1
    assert [outcome.source for outcome in house.notes.outcomes][-1].value == "cache"  # type: ignore[union-attr]


@recalls
async def test_a_recalled_reply_has_the_asker_s_id_and_case_and_the_time_that_passed(house: House) -> None:
    await house.ask(asking())
    house.clock.time += 100
    query = asking("wWw.ExAmPlE.")
    reply = dns.message.from_wire(house.front.recall(query.to_wire(), HOST, UDP) or b"")
    assert (reply.id, reply.question[0].name.to_text()) == (query.id, "wWw.ExAmPlE.")
    assert reply.answer[0].ttl == 200


@recalls
async def test_what_policy_stopped_is_told_each_time_it_is_recalled() -> None:
    quiet = House(tell_hits=False)
    verdict = Verdict(Action.NXDOMAIN, Rule("example", 'list "ads"'))
    quiet.canned.on("www.example", answer(rcode=3, authority=(SOA,), born=quiet.clock.time, verdict=verdict))
    quiet.canned.on("other.example", answer("other.example. 300 A 192.0.2.1", born=quiet.clock.time))
    for name in ("www.example.", "other.example."):
        await quiet.ask(asking(name))
    assert quiet.front.recall(asking("wWw.example.").to_wire(), HOST, TCP) is not None
    assert quiet.front.recall(asking("other.example.").to_wire(), HOST, UDP) is not None
    first, _, again = quiet.notes.outcomes
    assert (again.question, again.rcode, again.verdict) == (first.question, 3, verdict)
    assert again.client.transport is TCP


@recalls
async def test_a_reply_is_asked_for_again_before_it_expires(house: House) -> None:
    await house.ask(asking())
    house.clock.time += 269
    assert house.front.recall(asking().to_wire(), HOST, UDP) is not None
    house.clock.time += 1
    assert house.front.recall(asking().to_wire(), HOST, UDP) is None


async def test_requests_of_another_shape_get_replies_of_their_own(house: House) -> None:
    await house.ask(asking())
    for other in (
        asking(use_edns=0),
        asking(want_dnssec=True),
        asking(flags=dns.flags.RD | dns.flags.CD),
        asking("www.example", "AAAA"),
    ):
        assert house.front.recall(other.to_wire(), HOST, UDP) is None


async def test_nothing_is_recalled_for_a_client_that_has_not_been_admitted(house: House) -> None:
    await house.ask(asking())
    assert house.front.recall(asking().to_wire(), STRANGER, UDP) is None


async def test_a_client_that_is_not_served_is_refused(house: House) -> None:
    reply = await house.ask(asking(use_edns=0), STRANGER)
    assert (reply.rcode(), edes(reply)) == (5, [18])
    assert house.canned.asked == []


async def test_or_met_with_silence() -> None:
    house = House(silently=True).at_home()
    assert await house.front.answer(asking().to_wire(), STRANGER, UDP) == b""
    assert await house.front.answer(asking().to_wire()[:-1], STRANGER, UDP) == b""


async def test_a_failure_is_told_with_its_extended_errors(house: House) -> None:
    house.canned.on("www.example", NoReachableUpstream("quad9: timed out"))
    reply = await house.ask(asking(use_edns=0))
    assert (reply.rcode(), edes(reply)) == (2, [22])
    reply = await house.ask(asking())
    assert (reply.rcode(), reply.edns) == (2, -1)


async def test_what_did_not_validate_is_told_as_such(house: House) -> None:
    house.canned.on("www.example", ValidationFailed((Ede(7, "expired"),), Answer(0, security=Security.BOGUS, upstream="quad9")))
    reply = await house.ask(asking(want_dnssec=True))
    assert (reply.rcode(), edes(reply), reply.flags & dns.flags.AD) == (2, [7], 0)
    assert (house.notes.outcomes[-1].security, house.notes.outcomes[-1].upstream) == (Security.BOGUS, "quad9")


async def test_a_defect_is_a_servfail_and_not_the_end(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.canned.on("www.example", lambda _query: 1 / 0)  # type: ignore[arg-type, return-value]
    assert (await house.ask(asking())).rcode() == 2
    assert "defect" in caplog.text


async def test_a_drop_is_silence_each_time(house: House) -> None:
    verdict = Verdict(Action.DROP, Rule("www.example", 'list "x"'))
    house.at_home(verdict=verdict)
    for _ in range(2):
        assert await house.front.answer(asking().to_wire(), HOST, UDP) == b""
    assert house.notes.outcomes[-1].rcode == -1


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (asking(flags=0), 5),  # no recursion desired
        (asking(qtype="AXFR"), 4),
        (asking(qtype="MAILB"), 4),
        (dns.message.make_query("version.bind.", "TXT", "CH"), 5),
        (asking(use_edns=1), 16),
    ],
)
async def test_what_no_pipeline_is_asked(house: House, message: dns.message.Message, rcode: int) -> None:
    assert (await house.ask(message)).rcode() == rcode
    assert house.canned.asked == []


async def test_qdcount_other_than_one_is_a_format_error(house: House) -> None:
    wire = bytearray(asking().to_wire())
    wire[5] = 0
    assert (await house.ask(bytes(wire[:12]))).rcode() == 1
    wire[5] = 2
    assert (await house.ask(bytes(wire) + bytes(wire[12:]))).rcode() == 1


@pytest.mark.parametrize("wire", [b"", b"\0" * 11, asking().to_wire()[:2] + b"\x80" + asking().to_wire()[3:]])
async def test_garbage_and_responses_are_met_with_silence(house: House, wire: bytes) -> None:
    assert house.front.recall(wire, HOST, UDP) is None
    assert await house.front.answer(wire, HOST, UDP) == b""


async def test_any_asks_for_the_least_that_will_do(house: House) -> None:
    house.canned.on("www.example", answer(r"www.example. 60 TYPE13 \# 9 075246433834383200"), "ANY")
    reply = await house.ask(asking(qtype="ANY"), transport=TCP)
    assert [rrset.rdtype for rrset in reply.answer] == [dns.rdatatype.HINFO]
    assert [query.minimal for query in house.canned.asked] == [True]


async def test_any_with_do_is_left_to_tcp(house: House) -> None:
    house.canned.on("www.example", answer("www.example. 300 A 192.0.2.1"), "ANY")
    query = asking(qtype="ANY", want_dnssec=True)
    reply = await house.ask(query)
    assert (bool(reply.flags & dns.flags.TC), reply.answer) == (True, [])
    assert len((await house.ask(query, transport=TCP)).answer) == 1
    assert not any(query.minimal for query in house.canned.asked)
    assert house.front.recall(query.to_wire(), HOST, UDP) is None


@recalls
async def test_over_udp_replies_keep_to_what_both_sides_take(house: House) -> None:
    lines = [f'www.example. 300 TXT "{"x" * 200}{number}"' for number in range(9)]
    house.canned.on("www.example", answer(*lines, born=house.clock.time), "TXT")
    for payload in (0, 512, 4096):
        query = asking(qtype="TXT", **({"use_edns": 0, "payload": payload} if payload else {}))
        for _ in range(2):
            wire = house.front.recall(query.to_wire(), HOST, UDP) or await house.front.answer(query.to_wire(), HOST, UDP)
            assert wire[2] & 2
            assert len(wire) <= min(max(payload, 512), 1232)
        whole = house.front.recall(query.to_wire(), HOST, TCP) or b""
        assert not whole[2] & 2
        assert len(whole) > 1232


WIRES = st.builds(
    lambda name, qtype, flags, edns, do, tail: (
        dns.message.make_query(name, qtype, flags=flags, use_edns=edns, want_dnssec=do).to_wire() + tail
    ),
    st.sampled_from(["www.example.", "WWW.example.", "mail.example.", "a\\000b.example.", "."]),
    st.sampled_from(["A", "AAAA", "ANY", "TYPE65", "TYPE97"]),
    st.integers(0, 0xFFFF).map(lambda flags: flags & 0x07F0),
    st.sampled_from([-1, 0, 1]),
    st.booleans(),
    st.sampled_from([b"", b"\0"]),
)


@given(st.lists(WIRES, min_size=1, max_size=12))
async def test_recall_says_what_answer_would_say_or_nothing(wires: list[bytes]) -> None:
    house = House()
    for name in ("www.example", "mail.example", "a\\000b.example", "."):
        for qtype in ("A", "AAAA", "ANY", "TYPE65", "TYPE97"):
            house.canned.on(name, answer(f"{name} 300 A 192.0.2.1", born=house.clock.time, security=Security.SECURE), qtype)
    for wire in wires:
        recalled = house.front.recall(wire, HOST, UDP)
        assert recalled in (None, await house.front.answer(wire, HOST, UDP))


@recalls
async def test_what_an_earlier_generation_decided_is_not_replayed_by_a_later_one(house: House) -> None:
    query = asking(use_edns=0).to_wire()
    later = Generation(house.canned, OnlyLoopback(), ReplyStore(1 << 20), False, 1232, 5.0)

    class ReloadedMeanwhile:
        async def resolve(self, asked: Query) -> Answer:
            house.front.replace(later)
            await house.front.answer(asking().to_wire(), HOST, UDP)  # the later one knows this client
            return await house.canned.resolve(asked)

    house.front.replace(Generation(ReloadedMeanwhile(), OnlyLoopback(), ReplyStore(1 << 20), False, 1232, 5.0))
    assert await house.front.answer(query, HOST, UDP)
    assert house.front.recall(query, HOST, UDP) is None
    assert await house.front.answer(query, HOST, UDP)
    assert house.front.recall(query, HOST, UDP) is not None


@recalls
async def test_a_defect_in_replaying_makes_a_miss_and_is_logged_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    query = asking().to_wire()
    first = await house.front.answer(query, HOST, UDP)
    house.front.recall.use(house.front._groups, lambda _key: 1 / 0, 1232)  # type: ignore[arg-type, return-value]
    for _ in range(3):
        assert house.front.recall(query, HOST, UDP) is None
        assert await house.front.answer(query, HOST, UDP) == first
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "ZeroDivisionError" in caplog.text


@recalls
async def test_an_observer_that_raises_makes_a_miss(house: House, caplog: pytest.LogCaptureFixture) -> None:
    query = asking().to_wire()
    await house.front.answer(query, HOST, UDP)
    house.notes.outcomes = None  # type: ignore[assignment]
    assert house.front.recall(query, HOST, UDP) is None
    assert "was not replayed" in caplog.text


async def test_who_has_an_identity_is_told_with_it(house: House) -> None:
    peer = Attested(HOST, "spiffe://prod.example/web")
    await house.front.answer(asking().to_wire(), peer, Transport.DOT)
    house.front.recall(asking().to_wire(), peer, Transport.DOT)
    told = [outcome.client for outcome in house.notes.outcomes]
    assert {(client.address, client.identity, client.assurance) for client in told} == {(*peer, Assurance.ATTESTED)}
    assert len(told) == (1 if KIND == "off" else 2)
    await house.front.answer(asking().to_wire(), HOST, Transport.DOT)
    assert house.notes.outcomes[-1].client.assurance is Assurance.INFERRED


async def test_clients_that_are_known_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dohproxy.front.MAX_KNOWN_CLIENTS", 8)
    for number in range(30):
        await house.front.answer(asking().to_wire(), Attested(HOST, f"dns:{number}.example"), Transport.DOT)
    assert len(house.front._groups) <= 8
