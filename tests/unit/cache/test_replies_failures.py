import gc
import tracemalloc

from msgspec import Struct

from dohproxy.cache.answers import key_of
from dohproxy.cache.failures import MAX_TTL, FailureStore
from dohproxy.cache.replies import ReplyStore
from dohproxy.errors import CachedFailure, UpstreamFailed
from dohproxy.model import Answer, Question, RRset, Security
from dohproxy.wire import constants as c

KEY = key_of(Question(b"\1a\0", c.A), False)


class Held(Struct, frozen=True, gc=False):
    packed: bytes
    rcode: int
    security: Security
    upstream: str


def held(n):
    return Held(n.to_bytes(88), 0, Security.SECURE, "quad9")


def test_replies_come_back_until_there_is_no_room():
    replies = ReplyStore(100_000)
    for n in range(1000):
        replies.put(n.to_bytes(20), held(n))
    assert replies.get((999).to_bytes(20)) == held(999)
    assert replies.get((0).to_bytes(20)) is None
    assert replies.octets <= 100_000
    replies.clear()
    assert replies.get((999).to_bytes(20)) is None


def test_the_memory_that_replies_take_is_what_is_claimed():
    replies = ReplyStore(128 << 20)
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(10_000):
            replies.put(n.to_bytes(30), held(n))
        octets, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 < octets / replies.octets < 1.35


def test_a_failure_is_told_with_its_reasons_for_a_moment():
    failures = FailureStore(5)
    failures.put(KEY, UpstreamFailed("garbage"), 10.0)
    failed = failures.get(KEY, 14.9)
    assert isinstance(failed, CachedFailure)
    assert [ede.code for ede in failed.edes] == [23, 13]
    assert failed.edes[0].text == "garbage"
    assert failures.get(KEY, 15.0) is None
    assert len(failures) == 0


def test_being_told_of_a_failure_does_not_prolong_it():
    failures = FailureStore(5)
    failures.put(KEY, UpstreamFailed("garbage"), 10.0)
    failures.put(KEY, failures.get(KEY, 14.0), 14.0)
    assert failures.get(KEY, 15.0) is None


def test_an_answer_that_did_not_validate_is_kept_as_it_is():
    failures = FailureStore(5)
    bogus = Answer(c.NOERROR, security=Security.BOGUS)
    failures.put(KEY, bogus, 10.0)
    assert failures.get(KEY, 11.0) is bogus
    assert failures.get(key_of(Question(b"\1a\0", c.A), True), 11.0) is None


def test_an_answer_ends_a_failure():
    failures = FailureStore(5)
    failures.put(KEY, UpstreamFailed("garbage"), 10.0)
    failures.discard(KEY)
    assert failures.get(KEY, 11.0) is None


def test_no_failure_is_kept_over_five_minutes():
    """RFC 9520 3.2."""
    failures = FailureStore(86400)
    failures.put(KEY, UpstreamFailed("garbage"), 0.0)
    assert failures.get(KEY, MAX_TTL - 0.1) is not None
    assert failures.get(KEY, MAX_TTL) is None


def test_failures_are_bounded_large_answers_by_their_size():
    failures = FailureStore(5, limit=1 << 20)
    bogus = Answer(c.NOERROR, (RRset(b"\0", c.TXT, 1, tuple(bytes([n]) * 1000 for n in range(50))),), security=Security.BOGUS)
    for n in range(1000):
        failures.put((Question(b"\0", n), False), bogus, 0.0)
    assert 10 < len(failures) < 21
    for n in range(5000):
        failures.put((Question(b"\1x\0", n), False), UpstreamFailed("garbage"), 0.0)
    assert 500 < len(failures) < 1024
