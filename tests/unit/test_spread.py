"""Who is asked, by what the kernel tells of the load."""

import os
import time

import msgspec
import pytest

from dohproxy import spread
from dohproxy.spread import LOOK, USUALLY, Load, Spread

SECOND = 10**9
TICKS = os.sysconf("SC_CLK_TCK")


class Place(msgspec.Struct):
    number: int
    pid: int
    takes: bool = True


class Machine:
    """The kernel's accounts, and the workers' places."""

    def __init__(self, proc, count):
        self.proc, self.now = proc, 100.0
        self.places = [Place(number, 1000 + number) for number in range(count)]
        self.ran = {str(place.pid): 1 for place in self.places} | {"self": 1}
        self.idle = 1000.0
        self.write()
        self.spread = Spread(self.places)
        self.spread.weigh(self.now)

    def write(self):
        for pid, ran in self.ran.items():
            (self.proc / pid).mkdir(exist_ok=True)
            (self.proc / pid / "schedstat").write_text(f"{ran} {3 * ran} 7\n")
        ours, *others = sorted(os.sched_getaffinity(0))
        idle, much = int(self.idle * TICKS), int(self.now * TICKS)
        (self.proc / "stat").write_text(
            f"cpu  {much} {much} {much} {much} {much} {much}\n"
            f"cpu{ours} {much} {much} {much} {idle - idle // 3} {idle // 3} {much} {much}\n"
            + "".join(f"cpu{other} {much} {much} {much} 0 5 {much} {much}\n" for other in others)
            + f"cpu9999 1 1 1 {much} {much} 1 1\nctxt 77\n\n"
        )

    def goes_on(self, *runs, idle=0.0, seconds=LOOK):
        """So much time passes, of which the workers run these shares; whether that changes who is asked."""
        self.now += seconds
        self.idle += idle * seconds
        for place, share in zip(self.places, runs, strict=False):
            self.ran[str(place.pid)] += int(share * seconds * SECOND)
        self.write()
        changed = self.spread.weigh(self.now)
        self.asked = self.spread.targets()
        return changed

    def grow(self):
        while self.goes_on(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, idle=3) or len(self.asked) < len(self.places):
            pass


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "PROC", tmp_path)
    return lambda count: Machine(tmp_path, count)


def test_one_is_asked_until_it_is_short_then_twice_as_many(machine):
    many = machine(5)
    assert not many.goes_on(0.979, idle=3)
    assert many.asked == [0]
    assert many.goes_on(0.981, idle=3)
    assert many.asked == [0, 1]
    assert not many.goes_on(0.5, 0.99, idle=3), "of the new one nothing is known yet"
    assert many.goes_on(0.5, 0.99, idle=3), "one that is short is enough"
    assert many.asked == [0, 1, 2, 3]
    assert many.goes_on(1.0, 1.0, 1.0, 1.0, idle=3)
    assert many.asked == [0, 1, 2, 3, 4]
    assert not many.goes_on(1.0, 1.0, 1.0, 1.0, 1.0, idle=3)


def test_no_more_are_asked_where_no_processor_is_idle(machine):
    two = machine(2)
    assert not two.goes_on(1.0, idle=0.48)
    assert two.goes_on(1.0, idle=0.52)


def test_no_more_are_asked_before_those_that_are_to_be_can_be(machine):
    many = machine(8)
    for place in many.places[1:]:
        place.takes = False
    assert many.goes_on(1.0, idle=3)
    assert not many.goes_on(1.0, idle=3)
    assert many.asked == [0]
    for place in many.places[1:]:
        place.takes = True
    assert many.spread.targets() == [0, 1]


def test_fewer_are_asked_once_all_are_calm_as_a_rule(machine):
    many = machine(5)
    many.grow()
    assert many.asked == [0, 1, 2, 3, 4]
    assert not many.goes_on(0.1, 0.1, 0.41, 0.1, 0.1, seconds=USUALLY)
    assert not many.goes_on(1.0, 1.0, 1.0, 1.0, 1.0)
    assert not many.goes_on(0.39, 0.39, 0.1, 0.1, 0.1)
    assert many.goes_on(0.39, 0.39, 0.1, 0.1, 0.1, seconds=USUALLY)
    assert many.asked == [0, 1, 2, 3]
    assert not many.goes_on(0.1, 0.1, 0.1, 0.1, seconds=USUALLY / 2), "a minute each"
    assert many.goes_on(0.1, 0.1, 0.1, 0.1, seconds=USUALLY)
    assert many.asked == [0, 1]
    assert many.goes_on(0.1, 0.1, seconds=USUALLY)
    assert many.asked == [0]
    assert not many.goes_on(0.0, seconds=USUALLY)
    assert many.goes_on(1.0, idle=3)


def test_moments_do_not_matter_for_that(machine):
    two = machine(2)
    two.grow()
    seconds = 0
    while not two.goes_on(0.9 if seconds % 10 == 0 else 0.2, 0.2):
        seconds += 1
    assert 60 < seconds < 150
    two.grow()
    assert not two.goes_on(0.9, 0.5, seconds=5 * USUALLY), "no more than the mean of it"
    assert not two.goes_on(0.2, 0.2)


def test_who_is_gone_is_stood_in_for_and_others_keep_their_names(machine):
    many = machine(4)
    many.goes_on(1.0, idle=3)
    assert many.asked == [0, 1]
    many.places[0].takes = False
    assert many.spread.targets() == [2, 1]
    many.places[0].takes = True
    assert many.spread.targets() == [2, 1]
    many.places[1].takes = many.places[3].takes = False
    assert many.spread.targets() == [2, 0]
    many.places[2].takes = many.places[0].takes = False
    assert many.spread.targets() == []
    many.places[0].takes = True
    assert many.spread.targets() == [0]
    many.places[2].takes = True
    assert many.spread.targets() == [2, 0]


def test_where_all_are_asked_who_is_gone_has_its_names_again(machine):
    two = machine(2)
    two.goes_on(1.0, idle=3)
    two.places[0].takes = False
    assert two.spread.targets() == [1]
    two.places[0].takes = True
    assert two.spread.targets() == [0, 1]


def test_more_are_those_that_can_be_asked(machine):
    many = machine(4)
    many.places[1].takes = False
    many.goes_on(1.0, idle=3)
    assert many.asked == [0, 2]


def test_what_a_worker_does_before_it_can_be_asked_is_no_measure(machine):
    two = machine(2)
    two.places[0].takes = two.places[1].takes = False
    assert not two.goes_on(1.0, idle=3)
    assert not two.goes_on(1.0, idle=3)


def test_a_process_that_was_not_there_before_is_no_measure(machine):
    two = machine(2)
    two.places[0].pid = 1001
    assert not two.goes_on(1.0, 1.0, idle=3)
    two.places[0].pid = 4711  # of which the kernel knows nothing
    assert not two.spread.weigh(two.now + 1)


def test_a_processor_may_be_idle_where_that_is_not_told(machine):
    """As with procfs' subset=pid, or where processors have other numbers in it."""
    for stat in (None, "cpu 1 1 1 1 1 1\ncpu9999 1 1 1 1 1 1\n"):
        two = machine(2)
        for _ in range(2):
            two.now += LOOK
            two.ran["1000"] += SECOND
            two.write()
            (two.proc / "stat").unlink() if stat is None else (two.proc / "stat").write_text(stat)
            grown = two.spread.weigh(two.now)
        assert not grown
        assert two.spread.targets() == [0, 1]


def test_what_the_kernel_does_not_tell_any_more_changes_nothing(machine):
    two = machine(2)
    two.grow()
    (two.proc / "1000/schedstat").unlink()
    (two.proc / "1001/schedstat").unlink()
    assert not two.spread.weigh(two.now + 1)
    assert not two.spread.weigh(two.now + 1 + 2 * USUALLY)
    assert two.spread.targets() == [0, 1]


@pytest.mark.parametrize("told", ["0 0 0", "", None])
def test_all_are_asked_where_the_kernel_tells_nothing(machine, told):
    for own in machine(3).proc.glob("*/schedstat"):
        own.unlink() if told is None else own.write_text(told)
    places = [Place(number, 1000 + number) for number in range(3)]
    blind = Spread(places)
    assert not blind.weigh(100)
    assert not blind.weigh(100 + 2 * USUALLY)
    assert blind.targets() == [0, 1, 2]
    places[1].takes = False
    assert blind.targets() == [0, 2]


def test_this_kernel_tells():
    load = Load()
    assert load.known
    assert load.look([os.getpid()], time.monotonic())[0] == []
    begin, used = time.monotonic(), time.thread_time()
    while time.thread_time() < used + 0.1:
        pass
    [share], idle = load.look([os.getpid()], time.monotonic())
    passed = time.monotonic() - begin
    assert 0.09 < share * passed < passed * 1.1
    assert 0 <= idle < len(os.sched_getaffinity(0)) + 0.5
