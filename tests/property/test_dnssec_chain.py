"""However an answer, or one of those that its chain rests on, is changed: it is never secure with other data."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_tree import DAY, WALL, usual_tree
from msgspec.structs import replace

from dohproxy.dnssec.trust import TrustCache
from dohproxy.model import Answer, Question, RRset, Security
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text
from dohproxy.wire.rdata import canonical_rdata

TREE = usual_tree()
QUESTIONS = [
    ("www.example.com", c.A),
    ("www.example.com", c.AAAA),
    ("no.example.com", c.A),
    ("x.wild.example.com", c.A),
    ("x.wild.example.com", c.AAAA),
    ("x.wildalias.example.com", c.A),
    ("far.example.com", c.A),
    ("gone.example.com", c.A),
    ("www.old.example.com", c.A),
    ("www.old.example.com", c.CNAME),
    ("insecure.com", c.DS),
    ("b.example.com", c.A),
]
HONEST = {
    place: Question(from_text(place[0]), place[1])
    for place in [
        *QUESTIONS,
        ("example.com", c.DS),
        ("example.com", c.DNSKEY),
        (".", c.DNSKEY),
        ("com", c.DS),
        ("com", c.DNSKEY),
    ]
}
ANSWERS = {place: TREE.answer(question) for place, question in HONEST.items()}
FOREIGN = [rrset for answer in ANSWERS.values() for rrset in answer.answer + answer.authority]


def told(judged):
    """What an answer says, whatever else is said of it: the case of a name within is no part of it (RFC 4034 6.2)."""
    return judged.rcode, frozenset(
        (rrset.owner, rrset.rdtype, frozenset(canonical_rdata(rrset.rdtype, rdata) for rdata in rrset.rdatas))
        for rrset in judged.answer
    )


TRUTH = {place: told(TREE.judge(place[0], place[1])) for place in QUESTIONS}


@st.composite
def mangled(draw, answer: Answer) -> Answer:
    """The answer with one to three changes: bits, drops, swaps, records from elsewhere, another RCODE."""
    sections = {"answer": list(answer.answer), "authority": list(answer.authority)}
    rcode = answer.rcode
    for _ in range(draw(st.integers(1, 3))):
        section = sections[draw(st.sampled_from(sorted(sections)))]
        change = draw(st.sampled_from(["flip", "drop", "swap", "foreign", "strip", "owner", "rcode", "ttl"]))
        if change == "foreign":
            section.insert(draw(st.integers(0, len(section))), draw(st.sampled_from(FOREIGN)))
        elif change == "rcode":
            rcode = draw(st.sampled_from([c.NOERROR, c.NXDOMAIN, c.YXDOMAIN]))
        elif section:
            at = draw(st.integers(0, len(section) - 1))
            section[at : at + 1] = _changed(draw, change, section[at])
    return Answer(rcode, tuple(sections["answer"]), tuple(sections["authority"]))


def _changed(draw, change: str, rrset: RRset) -> list[RRset]:
    if change == "drop":
        return []
    if change == "strip":
        return [replace(rrset, signatures=())]
    if change == "owner":
        return [replace(rrset, owner=draw(st.sampled_from(FOREIGN)).owner)]
    if change == "ttl":
        return [replace(rrset, ttl=draw(st.integers(0, 2**31 - 1)))]
    if change == "swap":
        other = draw(st.sampled_from(FOREIGN))
        return [replace(rrset, rdatas=other.rdatas if draw(st.booleans()) else rrset.rdatas, signatures=other.signatures)]
    field = draw(st.sampled_from(["rdatas", "signatures"]))
    return [replace(rrset, **{field: tuple(_flipped(draw, rdata) for rdata in getattr(rrset, field))})]


def _flipped(draw, rdata: bytes) -> bytes:
    if not rdata:
        return rdata
    at = draw(st.integers(0, len(rdata) - 1))
    return rdata[:at] + bytes([rdata[at] ^ 1 << draw(st.integers(0, 7))]) + rdata[at + 1 :]


def judged_alike(place, judgement):
    """Secure means: what is told is the truth."""
    if judgement.security is Security.SECURE:
        assert told(judgement) == TRUTH[place]
    else:
        assert judgement.security is not Security.UNCHECKED


@pytest.mark.parametrize("place", QUESTIONS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_answer_is_never_secure_with_other_data(place, data):
    TREE.keys, TREE.mangle = TrustCache(), lambda _, answer: answer
    changed = data.draw(mangled(ANSWERS[place]))
    judgement = TREE.judge(place[0], place[1], changed)
    judged_alike(place, judgement)
    assert judgement.security is not Security.INSECURE or c.YXDOMAIN in (changed.rcode, judgement.rcode)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_link_of_the_chain_makes_nothing_secure_or_insecure(data):
    TREE.keys = TrustCache()
    victim = data.draw(st.sampled_from(sorted(set(HONEST) - set(QUESTIONS))))
    changed = data.draw(mangled(ANSWERS[victim]))
    TREE.mangle = lambda question, answer: changed if question == HONEST[victim] else answer
    judgement = TREE.judge("www.example.com")
    judged_alike(("www.example.com", c.A), judgement)
    assert judgement.security is not Security.INSECURE


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(QUESTIONS), days=st.integers(-4000, 4000))
def test_at_another_time_nothing_is_secure(place, days):
    TREE.keys, TREE.mangle = TrustCache(), lambda _, answer: answer
    judgement = TREE.judge(place[0], place[1], wall=WALL + days * DAY)
    assert (judgement.security is Security.SECURE) == (abs(days) <= 10)
