"""The operational log: standard logging, one line an event on standard error, as text or as JSON."""

from __future__ import annotations

import logging
import os
import traceback
from datetime import UTC, datetime

import msgspec

from dohproxy.config.settings import Log
from dohproxy.telemetry.sink import LineSink

STDERR = 2
ROOT = "dohproxy"
QUIET = ("quic", "http3")
"""Loggers of libraries that tell what strangers do: what of that matters is told, or counted, by ourselves."""

_encode = msgspec.json.Encoder().encode


def timestamp(seconds: float) -> str:
    """A wall time as in RFC 3339, in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def one_line(text: str) -> str:
    """The text with whatever could start a new line, or a terminal's escape, made visible: names come from strangers."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class EventHandler(logging.Handler):
    """Turns log records into lines and puts them into a sink."""

    def __init__(self, sink: LineSink, form: str) -> None:
        super().__init__()
        self._sink = sink
        self._line = json_line if form == "json" else text_line

    def emit(self, record: logging.LogRecord) -> None:
        """Put the record's line."""
        try:
            self._sink.put(self._line(record))
        except Exception:  # noqa: BLE001 -- logging's own convention: a record that cannot be told must not end its caller
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """Say that a record could not be told, and where it came from."""
        self._sink.put(f"log record lost: {record.pathname}:{record.lineno}\n".encode())


def text_line(record: logging.LogRecord) -> bytes:
    """Time, level, room and message; the traceback's lines, indented, where there is one."""
    room = record.name.removeprefix(ROOT + ".")
    line = f"{timestamp(record.created)} {record.levelname.lower()} {room}: {one_line(record.getMessage())}\n"
    return line.encode(errors="backslashreplace") + _indented(_traceback(record))


def json_line(record: logging.LogRecord) -> bytes:
    """One JSON object: time, level, room, message and, where there is one, the traceback."""
    event = {
        "time": timestamp(record.created),
        "level": record.levelname.lower(),
        "room": record.name.removeprefix(ROOT + "."),
        "message": record.getMessage(),
    }
    if trace := _traceback(record):
        event["traceback"] = trace
    return _encode(event) + b"\n"


def _traceback(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return "".join(traceback.format_exception(record.exc_info[1]))


def _indented(trace: str) -> bytes:
    return "".join(f"  {line}\n" for line in trace.splitlines()).encode(errors="backslashreplace")


def loss_line(form: str, lost: int) -> bytes:
    """What is told when lines were lost, in the form of all other lines."""
    record = logging.LogRecord(f"{ROOT}.log", logging.WARNING, __file__, 0, "%d log lines were lost", (lost,), None)
    return json_line(record) if form == "json" else text_line(record)


def set_up(log: Log, fd: int = STDERR) -> LineSink:
    """Send the project's log to `fd`; what is logged before is not lost. The caller closes the sink at the end."""
    _open_standard_descriptors()
    sink = LineSink(fd, lambda lost: loss_line(log.format, lost))
    sink.start()
    handler = EventHandler(sink, log.format)
    root = logging.getLogger(ROOT)
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(log.level.upper())
    logging.captureWarnings(False)
    for library in QUIET:
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    return sink


def _open_standard_descriptors() -> None:
    """Open to nowhere what was closed of them, or a socket would get the number that the log is written to."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
