import json
import logging
import os
import subprocess
import sys

import pytest

from dohproxy.config.settings import Log
from dohproxy.telemetry import logs


@pytest.fixture
def logged():
    """Log with these settings and get the lines."""
    root = logging.getLogger(logs.ROOT)
    before = root.handlers[:], root.propagate, root.level

    def run(log, write):
        reading, writing = os.pipe()
        sink = logs.set_up(log, writing)
        write(logging.getLogger("dohproxy.listen.tcp"))
        sink.close(patience=10)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            return stream.read().decode().splitlines()

    yield run
    root.handlers[:], root.propagate = before[:2]
    root.setLevel(before[2])


def test_text_is_time_level_room_message(logged):
    [line] = logged(Log(), lambda log: log.warning("cannot %s", "accept"))
    time, rest = line.split(" ", 1)
    assert rest == "warning listen.tcp: cannot accept"
    assert time.endswith("Z") and "T" in time


def test_json_is_one_object_a_line(logged):
    [line] = logged(Log(format="json"), lambda log: log.error("what\nnow"))
    event = json.loads(line)
    assert (event["level"], event["room"], event["message"]) == ("error", "listen.tcp", "what\nnow")


def test_level_holds_back(logged):
    def write(log):
        log.info("no")
        log.warning("yes")

    assert len(logged(Log(level="warning"), write)) == 1


def test_strangers_cannot_forge_lines(logged):
    [line] = logged(Log(), lambda log: log.info("name %s", "a\n2026 error all: lost\x1b[2J"))
    assert r"a\n2026 error all: lost\x1b[2J" in line


def test_traceback_is_told(logged):
    def write(log):
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("a task failed")

    text = logged(Log(), write)
    assert text[0].endswith("a task failed") and text[-1] == "  ValueError: broken"
    [line] = logged(Log(format="json"), write)
    assert "ValueError: broken" in json.loads(line)["traceback"]


def test_a_bad_record_ends_nobody(logged):
    [line] = logged(Log(), lambda log: log.info("%d", "no number"))
    assert line.startswith("log record lost: ")


def test_timestamp_is_utc_with_milliseconds():
    assert logs.timestamp(0.25) == "1970-01-01T00:00:00.250Z"


def test_no_socket_gets_the_number_of_a_closed_standard_error():
    program = """
import os, socket
from dohproxy.config.settings import Log
from dohproxy.telemetry.logs import set_up
os.close(0), os.close(2)
set_up(Log()).close()
print(socket.socket().fileno(), os.get_inheritable(2))
"""
    told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert int(told[0]) > 2 and told[1] == "True"
