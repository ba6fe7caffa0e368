import gc
import tracemalloc

from msgspec.structs import replace

from dohproxy.cache.answers import AnswerStore, Found, key_of, unpacked
from dohproxy.config.settings import Cache
from dohproxy.model import Answer, Ede, Link, Question, RRset, Security, Source, Transport
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text

WWW, ZONE = from_text("www.example.com"), from_text("example.com")
KEY = key_of(Question(WWW, c.A), False)
SIGNATURE = b"\0\1\x0d\3" + bytes(14) + ZONE + b"s" * 64
SOA = RRset(ZONE, c.SOA, 900, (ZONE + ZONE + bytes(16) + (60).to_bytes(4),))
LINKS = (Link(ZONE, Security.SECURE, None, None, 12345, 13, "trust anchor"),)
ANSWER = Answer(
    c.NOERROR,
    (RRset(WWW, c.CNAME, 300, (ZONE,), (SIGNATURE, SIGNATURE[:-1])), RRset(ZONE, c.A, 100, (b"abcd", b"efgh"), rdclass=c.CH)),
    (SOA,),
    Security.SECURE,
    (Ede(7, "é"), Ede(1)),
    born=50.0,
    upstream="quad9",
    transport=Transport.DOT,
    chain=LINKS,
)


def store(**settings):
    return AnswerStore(Cache(**settings))


def test_what_goes_in_comes_out():
    answers = store()
    kept = answers.put(KEY, ANSWER, 50.0)
    found = answers.get(KEY, 60.0)
    assert kept == ANSWER
    assert found.answer == replace(ANSWER, source=Source.CACHE)
    assert found.answer.chain is LINKS
    assert found.fresh_until == 150.0


def test_the_answer_is_given_out_as_it_is_kept():
    answers = store(max_ttl=70)
    assert [r.ttl for r in answers.put(KEY, ANSWER, 50.0).answer] == [70, 70]
    assert [r.ttl for r in answers.get(KEY, 50.0).answer.answer] == [70, 70]


def test_question_class_and_cd_are_told_apart():
    answers = store()
    answers.put(KEY, ANSWER, 50.0)
    for key in (
        key_of(Question(WWW, c.A), True),
        key_of(Question(WWW, c.AAAA), False),
        key_of(Question(WWW, c.A, c.CH), False),
        key_of(Question(ZONE, c.A), False),
    ):
        assert answers.get(key, 50.0) is None


def test_fresh_due_stale_gone():
    answers = store(stale_max=1000)
    answers.put(KEY, ANSWER, 50.0)
    states = {now: answers.get(KEY, now) for now in (139.0, 141.0, 150.0, 1149.0)}
    assert [(f.is_fresh(now), f.is_due(now)) for now, f in states.items()] == [
        (True, False),
        (True, True),
        (False, True),
        (False, True),
    ]
    assert answers.get(KEY, 1150.0) is None
    assert len(answers) == 0


def test_stale_says_so():
    answers = store()
    answers.put(KEY, ANSWER, 50.0)
    stale = answers.get(KEY, 500.0).stale()
    assert stale.stale
    assert stale.ede[0].code == c.EDE_STALE_ANSWER
    nxdomain = Answer(c.NXDOMAIN, (), (SOA,), born=50.0)
    answers.put(KEY, nxdomain, 50.0)
    assert answers.get(KEY, 500.0).stale().ede[0].code == c.EDE_STALE_NXDOMAIN


def test_nothing_is_kept_past_its_ttl_where_stale_is_off():
    answers = store(stale=False)
    answers.put(KEY, ANSWER, 50.0)
    assert answers.get(KEY, 149.9) is not None
    assert answers.get(KEY, 150.0) is None


def test_a_failure_leaves_the_old_answer_and_an_answer_with_ttl_0_displaces_it():
    answers = store()
    answers.put(KEY, ANSWER, 50.0)
    answers.put(KEY, Answer(c.SERVFAIL, born=160.0), 160.0)
    assert answers.get(KEY, 160.0) is not None
    answers.put(KEY, Answer(c.NOERROR, (RRset(WWW, c.A, 0, (b"abcd",)),), born=160.0), 160.0)
    assert answers.get(KEY, 160.0) is None


def test_discard_and_clear():
    answers = store()
    answers.put(KEY, ANSWER, 50.0)
    answers.discard(KEY)
    assert (len(answers), answers.octets) == (0, 0)
    answers.put(KEY, ANSWER, 50.0)
    answers.clear()
    assert answers.get(KEY, 50.0) is None


def ordinary(n):
    name = from_text(f"host{n}.some-zone-{n % 500}.example.com")
    rrset = RRset(name, c.A, 300, (n.to_bytes(4),))
    return key_of(Question(name, c.A), False), Answer(
        c.NOERROR, (rrset,), upstream="quad9", transport=Transport.DOT, chain=(*LINKS,)
    )


def test_200_000_ordinary_answers_fit_into_the_default_size():
    answers = store()
    for n in range(1000):
        answers.put(*ordinary(n), 0.0)
    assert answers.octets / 1000 < 420
    assert 200_000 * answers.octets / 1000 < Cache().size


def test_200_000_signed_answers_fit_into_the_default_size():
    answers = store()
    for n in range(1000):
        key, answer = ordinary(n)
        answers.put(key, replace(answer, answer=(replace(answer.answer[0], signatures=(SIGNATURE,)),)), 0.0)
    assert 200_000 * answers.octets / 1000 < Cache().size


def measured(limit, count):
    answers = store(size=limit)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(count):
            answers.put(*ordinary(n), 0.0)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return answers, after - before


def test_the_memory_taken_is_what_is_claimed():
    answers, octets = measured(128 << 20, 20_000)
    assert len(answers) == 20_000
    assert 0.7 < octets / answers.octets < 1.35


def test_the_memory_taken_is_what_is_claimed_when_answers_come_and_go():
    answers, octets = measured(2 << 20, 15_000)
    assert 4000 < len(answers) < 15_000
    assert answers.octets <= 2 << 20
    assert 0.7 < octets / answers.octets < 1.35


class OtherStore:
    """What others know, and are told."""

    def __init__(self):
        self.known, self.asked = {}, []

    def get(self, key):
        self.asked.append(key)
        return self.known.get(key)

    def put(self, key, answer, octets, fresh_until):
        assert unpacked(octets, answer.born) == replace(answer, source=Source.CACHE, chain=())
        self.known[key] = Found(replace(answer, chain=()), fresh_until)

    def clear(self):
        self.known.clear()


def shared(**settings):
    others = OtherStore()
    return AnswerStore(Cache(**settings), others), others


def test_others_are_told_of_what_may_be_kept_and_forget_it_too():
    answers, others = shared()
    answers.put(KEY, ANSWER, 50.0)
    assert others.known == {KEY: Found(replace(ANSWER, chain=()), 150.0)}
    answers.put(KEY, replace(ANSWER, born=-200.0), 50.0)
    answers.put(KEY, replace(ANSWER, rcode=c.SERVFAIL), 50.0)
    assert others.known[KEY].fresh_until == 150.0, "of that there is nothing to tell"
    answers.clear()
    assert not others.known and answers.get(KEY, 50.0) is None


def test_others_are_asked_for_what_is_not_here_or_not_fresh_and_it_is_kept():
    answers, others = shared()
    others.known[KEY] = Found(ANSWER, 150.0)
    assert answers.get(KEY, 60.0).answer == ANSWER
    assert answers.get(KEY, 60.0).answer == replace(ANSWER, source=Source.CACHE, chain=())
    assert others.asked == [KEY], "once"
    renewed = others.known[KEY] = Found(replace(ANSWER, born=160.0), 260.0)
    assert answers.get(KEY, 170.0) == renewed
    others.known[KEY] = Found(ANSWER, 150.0)
    assert answers.get(KEY, 270.0).fresh_until == 260.0, "what is here is the fresher of two that are stale"


def test_answers_to_cd_are_neither_asked_for_nor_told():
    answers, others = shared()
    key = key_of(Question(WWW, c.A), True)
    others.known[key] = Found(ANSWER, 150.0)
    assert answers.get(key, 60.0) is None
    others.known.clear()
    answers.put(key, ANSWER, 50.0)
    assert not others.known and not others.asked


def test_what_others_have_is_served_stale_no_longer_than_what_is_kept_here():
    for settings, at_last in ({"stale_max": 1000}, 1149.0), ({"stale": False}, 149.0):
        answers, others = shared(**settings)
        others.known[KEY] = Found(ANSWER, 150.0)
        assert answers.get(KEY, at_last + 1) is None
        assert answers.get(KEY, at_last).fresh_until == 150.0
