import pytest
from quic_callers import QuicCaller, own, quic_configuration

from dohproxy.lab.certificates import Authority
from dohproxy.listen.credentials import Credentials
from dohproxy.listen.doq import DoqSession
from dohproxy.listen.quic import QuicListener
from dohproxy.listen.quic_reception import QuicReception
from dohproxy.listen.quic_table import QuicTable
from dohproxy.model import Transport
from dohproxy.protocol.doq import ALPN


@pytest.fixture(scope="session")
def authority():
    return Authority()


@pytest.fixture(scope="session")
def server_credentials(authority):
    return authority.server("localhost", "127.0.0.1", "::1")


@pytest.fixture
def serve(listening, make_intake, nursery, server_credentials):
    """Start a listener, of DNS over QUIC unless told otherwise."""

    def start(address="127.0.0.1", *, speak=DoqSession, transport=Transport.DOQ, alpn=ALPN, credentials=None, **limits):
        sock = listening("udp", address)
        intake = make_intake(**limits)
        table = QuicTable(intake.limits, intake.counters)
        reception = QuicReception(credentials or Credentials((own(server_credentials),)))
        listener = QuicListener(sock, intake, table, reception, transport, alpn, speak)
        listener.address, listener.intake, listener.counters = sock.getsockname(), intake, intake.counters
        listener.table, listener.reception = table, reception
        if listener.address[0] in ("0.0.0.0", "::"):
            listener.address = ("127.0.0.1" if "." in address else "::1", listener.address[1])
        nursery.start_soon(listener.run)
        return listener

    return start


@pytest.fixture
def caller(authority):
    """Make a client of a listener that has not called yet."""
    made = []

    def make(listener, alpn=ALPN, *, bind="", adjust=None, **fields):
        one = QuicCaller(listener.address, quic_configuration(authority.pem, alpn, **fields), bind)
        if adjust is not None:
            adjust(one.quic)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def call(caller):
    """Make a client, connected."""

    async def connect(*args, **fields):
        one = caller(*args, **fields)
        assert await one.connect()
        return one

    return connect
