import logging
import os
import stat

import pytest

from dohproxy.telemetry.journal import Journal


@pytest.fixture
def lost():
    return []


@pytest.fixture
def journal(tmp_path, lost):
    return Journal(tmp_path / "j", 1000, lambda number: b"lost %d\n" % number, lost.append)


def write(journal, *lines):
    """What a batch of these is written as, in the thread of the test."""
    for line in lines:
        journal.put(line)
    journal._write_waiting()


def test_lines_are_appended_by_a_thread_to_a_file_that_is_the_owners_alone(tmp_path, journal):
    (tmp_path / "j").write_bytes(b"from before\n")
    (tmp_path / "j").chmod(0o600)
    journal.start()
    journal.put(b"one\n")
    journal.put(b"two\n")
    journal.close()
    assert (tmp_path / "j").read_bytes() == b"from before\none\ntwo\n"


def test_a_new_file_is_the_owners_alone(tmp_path, journal):
    write(journal, b"one\n")
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o600


def test_at_its_size_another_is_begun_and_one_is_kept(tmp_path, journal):
    for letter in (b"a", b"b", b"c"):
        write(journal, letter * 899 + b"\n")
    assert (tmp_path / "j").read_bytes() == b"c" * 899 + b"\n"
    assert (tmp_path / "j.1").read_bytes() == b"b" * 899 + b"\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "j.1"]


def test_several_processes_may_write_to_one_file(tmp_path, journal, lost):
    other = Journal(tmp_path / "j", 1000, lambda number: b"lost %d\n" % number, lost.append)
    for number in range(6):
        write(journal, b"%d" % number * 299 + b"\n")
        write(other, b"%d" % number * 299 + b"\n")
    kept = (tmp_path / "j.1").read_bytes() + (tmp_path / "j").read_bytes()
    assert [line[:1] for line in kept.splitlines()] == [b"3", b"3", b"4", b"4", b"5", b"5"]
    assert lost == []


def test_a_line_longer_than_the_size_is_written_all_the_same(tmp_path, journal):
    write(journal, b"a" * 1999 + b"\n")
    assert (tmp_path / "j").stat().st_size == 2000


@pytest.mark.parametrize("gone", [lambda path: path.rename(path.with_name("moved")), lambda path: path.unlink()])
def test_a_file_that_was_moved_away_is_begun_again(tmp_path, journal, gone):
    write(journal, b"one\n")
    gone(tmp_path / "j")
    write(journal, b"two\n")
    assert (tmp_path / "j").read_bytes() == b"two\n"


def test_a_directory_that_is_gone_costs_lines_until_it_is_back(tmp_path, lost, caplog):
    directory = tmp_path / "d"
    journal = Journal(directory / "j", 1000, lambda number: b"lost %d\n" % number, lost.append)
    with caplog.at_level(logging.WARNING):
        write(journal, b"one\n", b"two\n")
        write(journal, b"three\n")
    assert lost == [2, 1]
    assert len(caplog.records) == 1
    assert "No such file or directory" in caplog.text
    directory.mkdir()
    write(journal, b"four\n")
    assert (directory / "j").read_bytes() == b"four\nlost 3\n"
    directory.joinpath("j").unlink()
    write(journal, b"five\n")
    assert (directory / "j").read_bytes() == b"five\n"


def test_a_link_is_not_followed(tmp_path, journal, lost):
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "j").symlink_to(tmp_path / "target")
    write(journal, b"one\n")
    assert (tmp_path / "target").read_bytes() == b""
    assert lost == [1]


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path, lost, monkeypatch):
    journal = Journal(tmp_path / "j", 1000, lambda number: b"lost %d\n" % number, lost.append)
    real, room = os.write, [6]

    def short(fd, octets):
        if not room[0]:
            raise OSError(28, "No space left on device")
        part = octets[: room[0]]
        room[0] -= len(part)
        return real(fd, part)

    monkeypatch.setattr(os, "write", short)
    write(journal, b"one\n", b"two\n")
    assert lost == [2]
    room[0] = 1000
    write(journal, b"three\n")
    assert (tmp_path / "j").read_bytes() == b"one\ntw\nthree\nlost 2\n"


def test_what_waits_is_bounded(journal, lost):
    for _ in range(1003):
        journal.put(b"line\n")
    assert sum(lost) == 3
