"""DNS over QUIC as a client has it."""

import pytest
from quic_callers import QuicCaller, quic_configuration

from dohproxy.lab.certificates import Authority
from dohproxy.listen.doq import DoqSession
from dohproxy.listen.quic import QuicListener
from dohproxy.listen.quic_table import QuicTable
from dohproxy.model import Transport
from dohproxy.protocol.doq import ALPN
from dohproxy.protocol.quic_tls import Reception, shown


def message(text=b"one", id=b"\0\0"):
    return (id + b"\1\0" + text).ljust(16, b".")


async def test_answers_each_stream(serve_doq, call):
    listener, intake = serve_doq()
    one = await call(listener)
    replies = [await one.ask(message(b"miss")), await one.ask(message(b"other"))]
    assert replies == [message(b"miss").upper(), message(b"other").upper()]
    assert intake.counters.doq_queries == 2


@pytest.fixture(scope="session")
def authority():
    return Authority()


@pytest.fixture(scope="session")
def certificate(authority):
    credentials = authority.server("localhost", "127.0.0.1")
    return shown(credentials.certificate, credentials.key)


@pytest.fixture
def serve_doq(listening, make_intake, nursery, certificate):
    def start(address="127.0.0.1", reception=None, **limits):
        sock = listening("udp", address)
        intake = make_intake(**limits)
        listener = QuicListener(
            sock,
            intake,
            QuicTable(intake.limits, intake.counters),
            reception or Reception(lambda: [certificate]),
            Transport.DOQ,
            ALPN,
            DoqSession,
        )
        listener.address = sock.getsockname()
        nursery.start_soon(listener.run)
        return listener, intake

    return start


@pytest.fixture
def call(authority):
    callers = []

    async def connect(listener, alpn=ALPN, bind="", **fields):
        one = QuicCaller(listener.address, quic_configuration(authority.pem, alpn, **fields), bind)
        callers.append(one)
        assert await one.connect()
        return one

    yield connect
    for one in callers:
        one.close()
