from dohproxy.cache.bounded import Bounded


def store(limit):
    return Bounded(limit, lambda _, value: value)


def test_it_never_holds_more_than_its_limit_and_counts_exactly():
    bounded = store(100)
    for key in range(1000):
        bounded.put(key, key % 17 + 1)
        kept = [value for key in range(1000) if (value := bounded._young.get(key) or bounded._old.get(key))]
        assert bounded.octets == sum(kept) <= 100
        assert len(bounded) == len(kept)


def test_the_eldest_leave_first_but_not_what_was_read():
    bounded = store(4)
    for key in "abcd":
        bounded.put(key, 1)
    bounded.put("e", 1)
    assert bounded.get("a") is None
    assert bounded.get("b") == 1
    bounded.put("f", 1)
    assert bounded.get("c") is None
    assert bounded.get("b") == 1


def test_what_is_read_again_and_again_stays_through_any_flood():
    bounded = store(10)
    bounded.put("hot", 1)
    for key in range(1000):
        bounded.put(key, 1)
        assert bounded.get("hot") == 1


def test_a_new_value_replaces_the_old_one_in_either_generation():
    bounded = store(4)
    for key in "abcd":
        bounded.put(key, 1)
    bounded.put("e", 1)
    bounded.put("b", 2)
    assert bounded.get("b") == 2
    assert bounded.octets <= 4


def test_what_alone_is_over_the_limit_is_not_kept_nor_what_it_was_to_replace():
    bounded = store(4)
    bounded.put("a", 1)
    bounded.put("a", 5)
    assert bounded.get("a") is None
    assert (len(bounded), bounded.octets) == (0, 0)


def test_forgetting():
    bounded = store(4)
    for key in "abcde":
        bounded.put(key, 1)
    bounded.discard("b")
    bounded.discard("e")
    bounded.discard("never")
    assert (len(bounded), bounded.octets) == (2, 2)
    bounded.clear()
    assert (len(bounded), bounded.octets, bounded.get("c")) == (0, 0, None)
