"""Who is asked, by what the kernel tells of the load."""

import os
import time

import msgspec
import pytest

from dohproxy import spread
from dohproxy.spread import CALM_FOR, Load, Spread

SECOND = 10**9


class Place(msgspec.Struct):
    number: int
    pid: int | None
    takes: bool = True


class Machine:
    """The kernel's accounts, and the workers' places."""

    def __init__(self, proc, count):
        self.proc, self.now = proc, 100.0
        self.places = [Place(number, 1000 + number) for number in range(count)]
        self.times = {str(place.pid): [1, 0] for place in self.places} | {"self": [1, 0]}
        self.idle = 0.0
        self.write()
        self.spread = Spread(self.places)
        self.spread.weigh(self.now)

    def write(self):
        for pid, (ran, waited) in self.times.items():
            (self.proc / pid).mkdir(exist_ok=True)
            (self.proc / pid / "schedstat").write_text(f"{ran} {waited} 7\n")
        ticks = int(self.idle * os.sysconf("SC_CLK_TCK"))
        ours, *others = sorted(os.sched_getaffinity(0))
        lines = ["cpu 9 9 9 999999 9 9", f"cpu{ours} 1 2 3 {ticks - 4} 4 5", *(f"cpu{other} 1 2 3 0 0 5" for other in others)]
        (self.proc / "stat").write_text("\n".join([*lines, "cpu9999 1 1 1 999999 1 1", "ctxt 77", ""]))

    def goes_on(self, runs=(), waits=(), idle=0.0, seconds=0.5):
        """So much time passes, of which the workers run and wait these shares; whether that changes who is asked."""
        self.now += seconds
        self.idle += idle * seconds
        for column, shares in enumerate((runs, waits)):
            for place, share in zip(self.places, shares, strict=False):
                self.times[str(place.pid)][column] += int(share * seconds * SECOND)
        self.write()
        changed = self.spread.weigh(self.now)
        self.asked = self.spread.targets()
        return changed


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(spread, "PROC", tmp_path)
    return lambda count: Machine(tmp_path, count)


def test_one_is_asked_until_it_is_short_then_twice_as_many(machine):
    many = machine(5)
    assert not many.goes_on([0.89], idle=3)
    assert many.asked == [0]
    assert many.goes_on([0.91], idle=3)
    assert many.asked == [0, 1]
    assert not many.goes_on([0.5, 0.95], idle=3), "of the new one nothing is known yet"
    assert many.goes_on([0.5, 0.95], idle=3), "one that is short is enough"
    assert many.asked == [0, 1, 2, 3]
    assert many.goes_on([0.95] * 4, idle=3)
    assert many.asked == [0, 1, 2, 3, 4]
    assert not many.goes_on([0.95] * 5, idle=3)


def test_no_more_are_asked_where_they_would_have_no_time(machine):
    two = machine(2)
    assert not two.goes_on([1.0], idle=0.49)
    assert not two.goes_on([0.8], [0.2], idle=0.1), "it has nearly all that it wants"
    assert two.goes_on([0.6], [0.4]), "others have the processors: two get more of them than one"


def test_fewer_are_asked_once_all_were_calm_for_long(machine):
    many = machine(5)
    while many.goes_on([0.95] * 5, idle=3):
        pass
    assert many.asked == [0, 1, 2, 3, 4]
    assert not many.goes_on([0.1] * 5, seconds=CALM_FOR - 1)
    assert not many.goes_on([0.1] * 4 + [0.41]), "it begins anew"
    assert not many.goes_on([0.4] * 5, seconds=CALM_FOR - 1)
    assert many.goes_on([0.4] * 5, seconds=1)
    assert many.asked == [0, 1, 2]
    assert not many.goes_on([0.1] * 3, seconds=CALM_FOR - 1)
    assert many.goes_on([0.1] * 3, seconds=1)
    assert many.asked == [0, 1]
    assert many.goes_on([0.1] * 2, seconds=CALM_FOR)
    assert many.asked == [0]
    assert not many.goes_on([0.0], seconds=CALM_FOR)
    assert many.goes_on([0.95], idle=3)


def test_who_is_gone_is_stood_in_for_and_others_keep_their_names(machine):
    many = machine(4)
    many.goes_on([0.95], idle=3)
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
    two.goes_on([0.95], idle=3)
    two.places[0].takes, two.places[0].pid = False, None
    assert two.spread.targets() == [1]
    two.places[0].takes = True
    assert two.spread.targets() == [0, 1]


def test_those_are_asked_first_that_can_be(machine):
    many = machine(4)
    many.places[1].takes = False
    many.goes_on([0.95], idle=3)
    assert many.asked == [0, 2]


def test_a_process_that_was_not_there_before_is_no_measure(machine):
    two = machine(2)
    two.places[0].pid = 1001
    assert not two.goes_on([1.0, 1.0], idle=3)
    two.places[0].pid = 4711  # of which the kernel knows nothing
    assert not two.spread.weigh(two.now + 1)


def test_what_the_kernel_does_not_tell_any_more_changes_nothing(machine):
    two = machine(2)
    two.times["1000"][0] = 10 * SECOND
    two.write()
    (two.proc / "stat").unlink()
    assert not two.spread.weigh(two.now + 1)
    two.goes_on([0.95], idle=10)
    assert two.goes_on([0.95], idle=3)
    (two.proc / "1000/schedstat").unlink()
    (two.proc / "1001/schedstat").unlink()
    assert not two.spread.weigh(two.now + 1)
    assert not two.spread.weigh(two.now + 1 + 2 * CALM_FOR)


@pytest.mark.parametrize("told", ["0 0 0", "", None])
def test_all_are_asked_where_the_kernel_tells_nothing(machine, told):
    for own in machine(3).proc.glob("*/schedstat"):
        own.unlink() if told is None else own.write_text(told)
    places = [Place(number, 1000 + number) for number in range(3)]
    blind = Spread(places)
    assert not blind.weigh(100)
    assert not blind.weigh(100 + 2 * CALM_FOR)
    assert blind.targets() == [0, 1, 2]
    places[1].takes = False
    assert blind.targets() == [0, 2]
    assert str(blind) == "3 of 3 workers"


def test_this_kernel_tells():
    load = Load()
    assert load.known
    assert load.look([os.getpid()], time.monotonic()) == ([], 0.0)
    begin, used = time.monotonic(), time.thread_time()
    while time.thread_time() < used + 0.1:
        pass
    [share], idle = load.look([os.getpid()], time.monotonic())
    passed = time.monotonic() - begin
    assert 0.09 < share.runs * passed < passed * 1.1
    assert share.waits >= 0
    assert 0 <= idle < len(os.sched_getaffinity(0)) + 0.5
