from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from dohproxy.cache import shared
from dohproxy.cache.answers import AnswerStore, key_of
from dohproxy.cache.shared import BadSharedFile, SharedAnswers, SharedFile
from dohproxy.config.settings import Cache
from dohproxy.model import Answer, Question, RRset, Security, Source
from dohproxy.wire.constants import A
from dohproxy.wire.names import from_text

SIZE = 1 << 20


class Times:
    """A monotonic clock that began some time ago, and the time of day."""

    def __init__(self, monotonic: float = 1000.0) -> None:
        self.offset, self.wall = 1_800_000_000.0 - monotonic, 1_800_000_000.0

    def now(self) -> float:
        return self.wall - self.offset

    def answers(self, file: SharedFile, meaning: bytes = b"meaning") -> SharedAnswers:
        return SharedAnswers(file, meaning, self.now, lambda: self.wall)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers"


@pytest.fixture
def file(path: Path) -> Iterator[SharedFile]:
    opened = SharedFile(path, SIZE)
    yield opened
    opened.close()


def question(name: str = "www.example.com") -> bytes:
    return key_of(Question(from_text(name), A), cd=False)


def answer(born: float, name: str = "www.example.com", ttl: int = 300, size: int = 4) -> Answer:
    rrset = RRset(from_text(name), A, ttl, (b"\x0a" * size,), (b"signature",))
    return Answer(0, (rrset,), security=Security.SECURE, born=born, upstream="one")


def tell(others: SharedAnswers, key: bytes, found: Answer) -> None:
    AnswerStore(Cache(), others).put(key, found, found.born)


def test_an_answer_comes_back_as_it_was_put(file: SharedFile) -> None:
    times = Times()
    answers = times.answers(file)
    tell(answers, question(), answer(times.now() - 10))
    assert answers.get(question()) is None, "nothing is read before it is written"
    file.flush()
    found = answers.get(question())
    assert found is not None and (found.answer.born, found.fresh_until) == (990.0, 1290.0)
    assert (found.answer.answer, found.answer.source) == (answer(0).answer, Source.CACHE)


def test_it_is_there_after_a_restart_with_another_monotonic_clock(path: Path) -> None:
    before, after = Times(1000.0), Times(5.0)
    first = SharedFile(path, SIZE)
    tell(before.answers(first), question(), answer(before.now()))
    first.close()
    after.wall += 100
    second = SharedFile(path, SIZE)
    found = after.answers(second).get(question())
    second.close()
    assert found is not None
    assert (found.answer.born - after.now(), found.fresh_until - after.now()) == (-100, 200)


def test_it_is_for_one_meaning_only(file: SharedFile) -> None:
    times = Times()
    tell(times.answers(file, b"one"), question(), answer(times.now()))
    file.flush()
    assert times.answers(file, b"other").get(question()) is None
    assert times.answers(file, b"one").get(question())


def test_what_is_forgotten_is_believed_by_nobody_even_if_it_was_on_its_way(file: SharedFile) -> None:
    times = Times()
    one, other = times.answers(file), times.answers(file)
    tell(one, question(), answer(times.now()))
    file.flush()
    tell(one, question("on.its.way"), answer(times.now(), "on.its.way"))
    other.clear()
    file.flush()
    assert (one.get(question()), one.get(question("on.its.way"))) == (None, None)
    tell(one, question(), answer(times.now()))
    file.flush()
    assert other.get(question())


@pytest.mark.parametrize("security", [Security.BOGUS, Security.INDETERMINATE])
def test_what_failed_is_not_shared(file: SharedFile, security: Security) -> None:
    times = Times()
    tell(times.answers(file), question(), Answer(0, answer(0).answer, security=security, born=times.now()))
    assert not file.waits


def test_a_clock_set_back_makes_nothing_live_longer(file: SharedFile) -> None:
    times = Times()
    tell(times.answers(file), question(), answer(times.now()))
    file.flush()
    times.wall -= 3600
    assert times.answers(file).get(question()) is None


def test_octets_that_are_not_what_was_written_are_not_believed(file: SharedFile) -> None:
    times = Times()
    answers = times.answers(file)
    tell(answers, question(), answer(times.now()))
    key, value = file._waiting.pop()
    for broken in (value[:-1], value[:20], b"", value[:30] + bytes([value[30] ^ 1]) + value[31:]):
        file.put(key, broken)
        file.flush()
        assert answers.get(question()) is None


def test_it_is_bounded_and_keeps_the_newest(file: SharedFile, path: Path) -> None:
    times = Times()
    answers = times.answers(file)
    for number in range(8000):
        tell(answers, question(f"n{number}.example"), answer(times.now(), f"n{number}.example", size=200))
        if number % 100 == 99:
            file.flush()
    assert path.stat().st_size <= SIZE
    assert file.lost == 0
    kept = [number for number in range(8000) if answers.get(question(f"n{number}.example"))]
    assert kept == list(range(8000 - len(kept), 8000)) and len(kept) > 500


def test_an_answer_too_large_for_it_costs_only_itself_and_what_was_there(file: SharedFile) -> None:
    times = Times()
    answers = times.answers(file)
    for number in range(20):
        tell(answers, question(f"n{number}.example"), answer(times.now(), f"n{number}.example", size=60000))
    file.flush()
    tell(answers, question(), answer(times.now()))
    file.flush()
    assert answers.get(question())


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    SharedFile(path, SIZE).close()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o666)
    with pytest.raises(BadSharedFile, match="only we may write"):
        SharedFile(path, SIZE)
    path.unlink()
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(BadSharedFile):
        SharedFile(path, SIZE)


def test_a_file_of_something_else_is_made_anew(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))
    path.chmod(0o600)
    file, times = SharedFile(path, SIZE), Times()
    tell(times.answers(file), question(), answer(times.now()))
    file.flush()
    assert times.answers(file).get(question())
    file.close()


def filled(path: Path, times: Times) -> SharedFile:
    file = SharedFile(path, SIZE)
    for number in range(1000):
        tell(times.answers(file), question(f"n{number}.example"), answer(times.now(), f"n{number}.example"))
    file.flush()
    assert path.stat().st_size > 5 * DAMAGED_FROM
    return file


DAMAGED_FROM = 8192
"""Behind the two pages that tell where the others are."""


def overwrite(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.seek(DAMAGED_FROM)
        opened.write(bytes(path.stat().st_size - DAMAGED_FROM))


@pytest.mark.parametrize("damage", [overwrite, lambda path: os.truncate(path, 5 * DAMAGED_FROM)])
def test_one_that_was_damaged_is_made_anew(path: Path, damage: Callable[[Path], None]) -> None:
    times = Times()
    filled(path, times).close()
    damage(path)
    file = SharedFile(path, SIZE)
    assert times.answers(file).get(question("n1.example")) is None
    tell(times.answers(file), question(), answer(times.now()))
    file.flush()
    assert times.answers(file).get(question())
    file.close()


def test_one_damaged_while_it_is_open_is_asked_no_more_and_goes(path: Path) -> None:
    times = Times()
    file = filled(path, times)
    answers = times.answers(file)
    overwrite(path)
    assert answers.get(question("n1.example")) is None
    assert file.trouble
    assert not path.exists()
    tell(answers, question(), answer(times.now()))
    assert not file.waits
    answers.clear()
    file.close()


def test_one_that_cannot_forget_goes(file: SharedFile, path: Path) -> None:
    overwrite(path)
    Times().answers(file).clear()
    assert file.trouble and not path.exists()


def test_what_another_process_has_made_anew_by_then_stays(path: Path) -> None:
    times = Times()
    file = filled(path, times)
    overwrite(path)
    path.unlink()
    path.write_bytes(b"another")
    assert times.answers(file).get(question("n1.example")) is None
    assert file.trouble
    assert path.read_bytes() == b"another"
    file.close()


def test_one_that_another_process_removes_meanwhile_is_made_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*given: Any) -> Any:
        monkeypatch.undo()
        file = shared._opened(*given)
        path.unlink()
        return file

    monkeypatch.setattr(shared, "_opened", opened)
    SharedFile(path, SIZE).close()
    assert path.exists()


def test_one_that_there_is_no_room_to_open_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise lmdb.MemoryError("no room")

    filled(path, Times()).close()
    before = path.read_bytes()
    monkeypatch.setattr(shared, "_opened", opened)
    with pytest.raises(BadSharedFile, match="answers cannot be used: no room"):
        SharedFile(path, SIZE)
    assert path.read_bytes() == before


def in_another_process(path: Path, ours: SharedFile, act: Callable[[SharedFile], None]) -> None:
    """Have it done with a file of its own: LMDB opens one only once a process."""
    if (child := os.fork()) == 0:
        try:
            ours._file.close()
            own = SharedFile(path, SIZE)
            act(own)
            own.close()
            os._exit(0)
        except BaseException:  # noqa: BLE001 -- the status tells it
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_two_processes_share_it(path: Path) -> None:
    times, file = Times(), SharedFile(path, SIZE)
    in_another_process(path, file, lambda own: tell(times.answers(own), question(), answer(times.now())))
    assert times.answers(file).get(question())
    file.close()


def test_what_was_asked_before_another_process_forgot_is_not_believed_after_it(path: Path) -> None:
    times, file = Times(), SharedFile(path, SIZE)
    answers = times.answers(file)
    assert answers.get(question()) is None, "so it is asked"
    in_another_process(path, file, lambda own: times.answers(own).clear())
    tell(answers, question(), answer(times.now()))
    file.flush()
    assert answers.get(question()) is None, "and so it is asked again"
    tell(answers, question(), answer(times.now()))
    file.flush()
    assert answers.get(question()) is not None
    file.close()
