"""The compiled store against its twin: the same operations, the same entries and octets, in the same order."""

import random

import pytest

from dohproxy.cache.bounded import InPython

compiled = pytest.importorskip("dohproxy.cache._compiled", reason="the stores are not compiled")

KEYS = [bytes([number]) * (number % 5 + 1) for number in range(1, 40)]
VALUES = [b"v" * size for size in (0, 1, 7, 30, 90)] + [("told", size) for size in (1, 12, 200)]

LIMITS = (1, 50, 120, 400, 100_000)


def octets_of(key, value):
    return len(key) + (len(value) if isinstance(value, bytes) else value[1])


@pytest.mark.parametrize("seed", range(100))
def test_both_do_the_same(seed):
    compare(seed, 1500)


def compare(seed, count):
    """So many operations, on stores of a limit that the seed tells too."""
    chance, limit = random.Random(seed), LIMITS[seed % len(LIMITS)]
    twins = [kind(limit, octets_of, 3) for kind in (InPython, compiled.Bounded)]
    for _ in range(count):
        key, value, what = chance.choice(KEYS), chance.choice(VALUES), chance.random()
        for store in twins:
            if what < 0.5:
                store.put(key, value)
            elif what < 0.9:
                found = store.get(key)
            elif what < 0.999:
                store.discard(key)
            else:
                store.clear()
        if 0.5 <= what < 0.9:
            assert found == twins[0]._young.get(key)  # where it is now, if it was anywhere
        one, other = twins
        assert list(one._young.items()) == list(other._young.items())
        assert list(one._old.items()) == list(other._old.items())
        assert (one.octets, len(one)) == (other.octets, len(other))
        assert one.octets <= limit


def test_octets_are_those_of_the_slot_and_of_both_or_as_told():
    for kind in (InPython, compiled.Bounded):
        store = kind(1000, octets_of, 3)
        store.put(b"key", b"value")
        assert store.octets == 3 + 3 + 5
        store.put(b"key", ("told", 20))
        assert store.octets == 3 + 20
