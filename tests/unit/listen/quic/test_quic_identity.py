"""Who a client of QUIC is, before anything that it asks is answered; and which certificate it is shown."""

import time
from datetime import UTC, datetime, timedelta

import pytest
import trio
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, StreamDataReceived
from aioquic.tls import Epoch
from cryptography import x509
from quic_callers import Held, own, quic_configuration, settled
from workloads import Unreadable

from dohproxy.identity.own import BadCertificate, KeyPair
from dohproxy.identity.peers import Authorities
from dohproxy.lab.certificates import Authority, Validity
from dohproxy.listen.credentials import LOOK, Credentials
from dohproxy.listen.quic_reception import QuicReception
from dohproxy.model import Attested
from dohproxy.protocol.quic_server import ServerConnection

PAY, WEB = "spiffe://prod.example/ns/pay/sa/ledger", "spiffe://prod.example/ns/web/sa/shop"
BAD, UNSUPPORTED, EXPIRED, UNKNOWN_CA, REQUIRED = (0x100 + alert for alert in (42, 43, 45, 48, 116))
QUERY = (b"\0\0\1\0miss").ljust(16, b".")
FRAMED = len(QUERY).to_bytes(2) + QUERY


@pytest.fixture
def bundle(authority, tmp_path):
    return Held(Authorities(authority.write(tmp_path), ()).current())


@pytest.fixture
def guarded(serve, server_credentials, bundle):
    def start(required=True):
        return serve(credentials=Credentials((own(server_credentials),), bundle, required))

    return start


@pytest.fixture
def of_pay(authority):
    return authority.client("ledger", PAY)


@pytest.fixture
def of_web(authority):
    return authority.client("shop", WEB)


async def ask_at_once(caller, listener, **fields):
    """Ask in the flight that ends the handshake; the caller, once it is answered or turned away."""
    one = caller(listener, **fields)
    one.quic.connect(one.address, trio.current_time())
    stream = one.send(FRAMED)
    one.reply = await one.over(stream)
    return one


async def test_verified_clients_are_known(guarded, caller, front, of_pay, of_web):
    listener = guarded()
    for credentials in (of_pay, of_web):
        assert (await ask_at_once(caller, listener, credentials=credentials)).reply
    assert [asked[1] for asked in front.asked] == [Attested("127.0.0.1", PAY), Attested("127.0.0.1", WEB)]


def past():
    now = datetime.now(UTC)
    return Validity(now - timedelta(days=2), now - timedelta(days=1))


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    ("make", "error", "why"),
    [
        (lambda _: Authority("stranger").client("ledger", PAY), UNKNOWN_CA, "no authority of ours vouches"),
        (lambda authority: authority.client("ledger", PAY, validity=past()), EXPIRED, "see its dates"),
        (lambda authority: authority.server("ledger"), UNSUPPORTED, "clients"),
        (lambda authority: authority.client("ledger", PAY, WEB), BAD, "URI"),
    ],
)
async def test_clients_that_do_not_verify_are_refused(guarded, caller, front, authority, required, make, error, why, caplog):
    caplog.set_level("DEBUG", "dohproxy.listen")
    listener = guarded(required)
    one = await ask_at_once(caller, listener, credentials=make(authority))
    assert (one.reply, one.closed.error_code) == (None, error)
    assert (front.asked, listener.counters.doq_queries, listener.counters.quic_open, listener.table.handshakes) == ([], 0, 0, 0)
    assert (listener.counters.tls_handshakes, listener.counters.tls_failed) == (0, 1)
    assert not listener.reception.tickets
    [told] = [record.getMessage() for record in caplog.records if "by QUIC" in record.getMessage()]
    assert why in told


async def test_a_certificate_that_cannot_be_read_is_refused(guarded, caller, front, of_pay, caplog):
    def adjust(quic):
        quic.configuration.certificate = Unreadable(quic.configuration.certificate)

    one = await ask_at_once(caller, guarded(), credentials=of_pay, adjust=adjust)
    assert (one.reply, one.closed.error_code, front.asked) == (None, BAD, [])
    assert "defect" not in caplog.text


async def test_a_required_certificate_must_be_shown(guarded, caller, front):
    one = await ask_at_once(caller, guarded())
    assert (one.reply, one.closed.error_code, front.asked) == (None, REQUIRED, [])


async def test_a_requested_certificate_may_be_left_out(guarded, caller, front, of_pay):
    listener = guarded(required=False)
    assert (await ask_at_once(caller, listener)).reply
    assert (await ask_at_once(caller, listener, credentials=of_pay)).reply
    assert [asked[1] for asked in front.asked] == ["127.0.0.1", Attested("127.0.0.1", PAY)]


async def test_where_nobody_is_asked_nobody_is_known(serve, caller, front, of_pay):
    assert (await ask_at_once(caller, serve(), credentials=of_pay)).reply
    assert front.asked[0][1] == "127.0.0.1"


def test_a_refusal_is_final(authority, server_credentials, bundle):
    """What follows the Finished message before the refusal has left does not complete the handshake."""
    reception = QuicReception(Credentials((own(server_credentials),), bundle, required=True))
    shown = reception.certificates()[0]
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=["doq"], certificate=shown.chain[0], private_key=shown.key
    )
    client = QuicConnection(configuration=quic_configuration(authority.pem, "doq"))
    client.connect("server", 0.0)
    server = ServerConnection(
        configuration, reception, original=client._peer_cid.cid, retried=None, streams=10, reset_key=bytes(32)
    )

    def to_server():
        for datagram, _ in client.datagrams_to_send(0.0):
            server.receive_datagram(datagram, "client", 0.0)

    while not client._handshake_complete:
        to_server()
        for datagram, _ in server.datagrams_to_send(0.0):
            client.receive_datagram(datagram, "server", 0.0)
    for _ in range(3):
        client.send_stream_data(client.get_next_available_stream_id(), FRAMED, end_stream=True)
        to_server()
        client._crypto_streams[Epoch.HANDSHAKE].sender.write(b"\0")
    seen = list(iter(server.next_event, None))
    assert server.closing
    assert not server.handshake.done
    assert not [event for event in seen if isinstance(event, (HandshakeCompleted, StreamDataReceived))]


async def test_resumption_keeps_identities_apart(guarded, caller, call, front, of_pay, of_web):
    listener = guarded()
    tickets = {}
    for name, credentials in (("pay", of_pay), ("web", of_web)):
        one = await call(listener, credentials=credentials)
        await one.until(lambda one=one: one.tickets)
        [tickets[name]] = one.tickets
    for ticket, credentials in ((tickets["web"], None), (tickets["pay"], of_web)):  # what is shown then, nobody looks at
        one = await ask_at_once(caller, listener, credentials=credentials, session_ticket=ticket)
        assert one.ready.session_resumed
    assert [asked[1].identity for asked in front.asked] == [WEB, PAY]


async def test_a_stolen_name_of_a_ticket_is_no_session(guarded, caller, call, front, of_pay):
    listener = guarded()
    one = await call(listener, credentials=of_pay)
    await one.until(lambda: one.tickets)
    [ticket] = one.tickets
    ticket.resumption_secret = bytes(len(ticket.resumption_secret))
    thief = await ask_at_once(caller, listener, session_ticket=ticket)
    assert (thief.reply, thief.closed.error_code, front.asked) == (None, 0x100 + 40, [])


@pytest.mark.parametrize("change", ["authorities", "dates", "name"])
async def test_what_a_session_rested_on_must_still_hold(guarded, caller, call, authority, bundle, tmp_path, change):
    listener = guarded()
    credentials = authority.client("ledger", PAY)
    one = await call(listener, credentials=credentials)
    await one.until(lambda: one.tickets)
    name = "localhost"
    if change == "authorities":
        bundle.value = Authorities(authority.write(tmp_path), ()).current()
    elif change == "dates":
        listener.reception._wall = lambda: time.time() + 400 * 86400
    else:
        name = "127.0.0.1"
    one.tickets[0].server_name = name
    again = await ask_at_once(caller, listener, session_ticket=one.tickets[0], name=name)
    assert (again.closed.error_code, again.reply) == (REQUIRED, None)  # it was asked for its certificate as anyone is


async def test_sessions_begun_without_a_certificate_stay_so(guarded, caller, call, front):
    listener = guarded(required=False)
    one = await call(listener)
    await one.until(lambda: one.tickets)
    again = await ask_at_once(caller, listener, session_ticket=one.tickets[0])
    assert again.ready.session_resumed
    assert front.asked[0][1] == "127.0.0.1"


async def test_tickets_kept_are_bounded(serve, call):
    listener = serve()
    listener.reception.tickets._limit = 3
    for _ in range(5):
        await call(listener)
    await settled(lambda: len(listener.reception.tickets) == 3)


# How long it stays who it was


@pytest.fixture
def lasting(serve, server_credentials, bundle, autojump_clock):
    """Start a listener whose wall clock goes with trio's, and whose connections may be idle for long."""
    now = autojump_clock.current_time
    began = time.time() - now()

    def start():
        listener = serve(credentials=Credentials((own(server_credentials),), bundle), quic_idle_timeout=1e6)
        listener.reception._wall = lambda: began + now()
        return listener

    return start


def for_seconds(authority, seconds):
    now = datetime.now(UTC)
    return authority.client("ledger", PAY, validity=Validity(now - timedelta(hours=1), now + timedelta(seconds=seconds)))


async def test_a_connection_ends_with_its_clients_certificate(lasting, autojump_clock, call, authority, front):
    listener, began = lasting(), trio.current_time()
    one = await call(listener, credentials=for_seconds(authority, 100), idle_timeout=1e6)
    assert await one.ask(QUERY)
    slow = b"\0\0\1\1slow".ljust(16, b".")
    gate = front.gates[slow[:4]] = trio.Event()
    asked = one.send(len(slow).to_bytes(2) + slow)
    await one.pause(98)
    assert len(front.asked) == 2 and one.closed is None
    await one.pause(5)
    late = one.send(FRAMED)
    await one.pause(1)
    gate.set()
    assert await one.over(asked)  # it was asked in time
    assert await one.over(late) is None
    assert len(front.asked) == 2 and trio.current_time() - began == pytest.approx(104, abs=2)
    assert (one.closed.error_code, listener.counters.quic_broken) == (0, 0)


async def test_an_idle_one_ends_then_and_one_without_a_certificate_stays(lasting, autojump_clock, call, authority):
    listener = lasting()
    one = await call(listener, credentials=for_seconds(authority, 100), idle_timeout=1e6)
    other = await call(listener, idle_timeout=1e6)
    began = trio.current_time()
    await one.until(lambda: False, 200)
    assert one.closed.error_code == 0 and trio.current_time() - began == pytest.approx(100, abs=2)
    await other.pause(1000)
    assert other.closed is None and await other.ask(QUERY)


async def test_a_connection_ends_when_nobody_vouches_for_its_client(
    lasting, autojump_clock, call, of_pay, authority, bundle, tmp_path
):
    listener = lasting()
    one = await call(listener, credentials=of_pay, idle_timeout=1e6)
    bundle.value = Authorities(authority.write(tmp_path), ()).current()
    await one.pause(10 * LOOK)
    assert one.closed is None
    bundle.value = Authorities(Authority("stranger").write(tmp_path), ()).current()
    began = trio.current_time()
    await one.until(lambda: False, 2 * LOOK)
    assert one.closed.error_code == 0 and trio.current_time() - began <= LOOK + 1


# Our own certificate


def shown_to(one):
    names = one.quic.tls._peer_certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


async def test_by_its_name_a_client_is_shown_its_certificate(serve, call, authority):
    credentials = [
        own(authority.server(*names)) for names in (["first.example"], ["a.example", "x.b.example"], ["*.b.example"])
    ]
    listener = serve(credentials=Credentials(tuple(credentials)))
    expected = {
        "a.example": "a.example",
        "x.b.example": "a.example",
        "y.b.example": "*.b.example",
        "first.example": "first.example",
    }
    for name, first in expected.items():
        assert shown_to(await call(listener, name=name))[0] == first


@pytest.mark.parametrize("name", ["z.y.b.example", "b.example", "none.example"])
async def test_without_one_of_its_name_it_is_the_first(serve, caller, authority, name):
    credentials = [own(authority.server(*names)) for names in (["first.example"], ["*.b.example"])]
    one = caller(serve(credentials=Credentials(tuple(credentials))), name=name)
    assert not await one.connect()
    assert shown_to(one) == ["first.example"]  # which its user refuses


async def test_a_certificate_is_replaced_while_we_run(serve, call, authority):
    held = own(authority.server("localhost", "old.example"))
    listener = serve(credentials=Credentials((held,)))
    before = await call(listener)
    new = authority.server("localhost", "new.example")
    held.value = KeyPair(new.certificate, new.key)
    after = await call(listener)
    assert [shown_to(one)[1] for one in (before, after)] == ["old.example", "new.example"]
    assert await before.ask(QUERY)
    assert await after.ask(QUERY)


@pytest.mark.parametrize("pair", [BadCertificate("none yet"), KeyPair(b"", "pkcs11:token=t")])
async def test_without_a_certificate_connections_are_refused(serve, caller, pair):
    listener = serve(credentials=Credentials((Held(pair),)))
    one = caller(listener)
    assert not await one.connect()
    assert (one.closed.error_code, listener.counters.quic_refused) == (2, 1)


async def test_new_credentials_end_all_resumption(serve, call, server_credentials):
    listener = serve()
    one = await call(listener)
    await one.until(lambda: one.tickets)
    listener.reception.use(Credentials((own(server_credentials),)))
    assert not (await call(listener, session_ticket=one.tickets[0])).ready.session_resumed


def test_reset_keys_are_the_same_after_a_restart(server_credentials):
    keys = {QuicReception(Credentials((own(server_credentials),))).reset_key() for _ in range(2)}
    assert len(keys) == 1
    assert QuicReception(Credentials(())).reset_key() not in keys
