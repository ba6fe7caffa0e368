import os
import threading
from select import PIPE_BUF

from dohproxy.telemetry.sink import LineSink


def read_all(fd):
    octets = b""
    while chunk := os.read(fd, 65536):
        octets += chunk
    os.close(fd)
    return octets


def told(lost):
    return b"lost %d\n" % lost


def test_lines_arrive_in_order():
    reading, writing = os.pipe()
    sink = LineSink(writing, told)
    sink.put(b"before start\n")
    sink.start()
    for i in range(600):
        sink.put(b"%d\n" % i)
    sink.close()
    os.close(writing)
    assert read_all(reading) == b"before start\n" + b"".join(b"%d\n" % i for i in range(600))
    assert sink.lost == 0


def test_a_reader_that_stops_holds_up_nobody_and_the_loss_is_told():
    reading, writing = os.pipe()
    sink = LineSink(writing, told, limit=10)
    sink.start()
    line = b"x" * 1023 + b"\n"
    for _ in range(1000):  # more than pipe and queue hold, with nobody reading
        sink.put(line)
    lost = sink.lost
    assert lost >= 1000 - 10 - 256 - 64
    reader: list[bytes] = []
    thread = threading.Thread(target=lambda: reader.append(read_all(reading)))
    thread.start()
    sink.close(patience=10)
    os.close(writing)
    thread.join()
    assert reader[0].count(line) == 1000 - lost
    assert b"lost %d\n" % lost in reader[0]


def test_a_closed_pipe_loses_lines_and_nothing_else():
    reading, writing = os.pipe()
    os.close(reading)
    sink = LineSink(writing, told)
    sink.start()
    sink.put(b"one\n")
    sink.close()
    os.close(writing)
    assert sink.lost == 1


def test_a_full_disk_loses_lines_and_nothing_else():
    full = os.open("/dev/full", os.O_WRONLY)
    sink = LineSink(full, told)
    sink.start()
    sink.put(b"one\n")
    sink.put(b"two\n")
    sink.close()
    os.close(full)
    assert sink.lost == 2


def test_closing_waits_no_longer_than_its_patience():
    reading, writing = os.pipe()
    sink = LineSink(writing, told)
    sink.put(b"x" * (1 << 20) + b"\n")
    sink.start()
    sink.close(patience=0.01)
    assert read_all_of(reading, (1 << 20) + 1)
    os.close(writing)


def read_all_of(fd, size):
    got = 0
    while got < size:
        got += len(os.read(fd, 65536))
    os.close(fd)
    return got == size


def test_what_is_written_at_once_stays_whole_in_a_pipe_that_others_write_to():
    read, write = os.pipe()
    sink = LineSink(write, lambda _: b"")
    lines = [b"%d" % number + b"x" * 1000 + b"\n" for number in range(20)] + [b"y" * 6000 + b"\n", b"z\n"]
    for line in lines:
        sink.put(line)
    sizes = []
    sink._write = lambda octets: sizes.append(len(octets)) or LineSink._write(sink, octets)
    sink.start()
    sink.close()
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"".join(lines)
    assert max(sizes[:-2]) <= PIPE_BUF
    assert sizes[-2:] == [6001, 2]
