"""TLS as listeners speak it, with clients that look closely."""

import os
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import trio
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated
from tls_peers import TlsPeer, client_context
from trio.testing import wait_all_tasks_blocked

from dohproxy.config import settings
from dohproxy.errors import DohproxyError
from dohproxy.lab.certificates import Authority, Validity
from dohproxy.listen.credentials import LOOK, credentials
from dohproxy.listen.doh import ALPN, SpeakHttp
from dohproxy.listen.encrypted import Encrypted, Under, speak_dns
from dohproxy.listen.tcp import OPENING, ConnectionTable, TcpListener
from dohproxy.listen.tcp import speak_dns as speak_plainly
from dohproxy.listen.tls import TICKET_LIFE, TlsServer
from dohproxy.listen.tls_stream import HandshakeFailed, TlsStream
from dohproxy.model import Attested, Transport
from dohproxy.protocol.doh_request import Site

PAY = "spiffe://prod.example/ns/pay/sa/web"
VERSIONS = [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2]


@pytest.fixture(scope="module")
def authority():
    return Authority("clients and servers")


@pytest.fixture(scope="module")
def stranger():
    return Authority("somebody else")


@pytest.fixture(scope="module")
def own(authority):
    return authority.server("proxy.test", "127.0.0.1")


@pytest.fixture
def make(tmp_path, authority, own):
    """A server of one certificate, or those given, that asks clients as told."""

    def make(auth="none", *, ca=authority, alpn=("dot",), now=lambda: 0.0, shown=(own,), **more):
        ca.write(tmp_path, "clients")
        files = tuple(settings.Certificate(*one.write(tmp_path, f"server{n}")) for n, one in enumerate(shown))
        asked = {"client_auth": auth, "client_ca_file": tmp_path / "clients.pem"}
        return TlsServer(credentials(settings.Tls(certificates=files, **asked, **more)), alpn, now)

    return make


class Meeting:
    """A server's stream and a client, connected."""

    def __init__(self, server, context, session=None, name="proxy.test"):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.stream = TlsStream(ours, server.terms())
        self.client = TlsPeer(theirs, context, name, session)
        self.failed = None

    async def shake_hands(self):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve)
            await self.client.shake_hands()
        return self

    async def _serve(self):
        try:
            await self.stream.shake_hands()
        except HandshakeFailed as error:
            self.failed = error
            await self.stream.aclose()

    async def say(self, data):
        await self.stream.send_all(data)
        return await self.client.exactly(len(data))

    async def close(self):
        await self.stream.aclose()
        self.client.close()


async def refused(meeting):
    """Why the client sees its handshake fail, or the first thing after it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(meeting._serve)
        with pytest.raises(ssl.SSLError) as caught:
            await meeting.client.shake_hands()
            await meeting.client.receive()
        meeting.client.close()
    assert meeting.failed is not None
    return caught.value.reason


async def refusal(server, context):
    return await refused(Meeting(server, context))


async def test_octets_both_ways(make, authority):
    meeting = await Meeting(make(), client_context(authority)).shake_hands()
    assert await meeting.say(b"x" * 100_000) == b"x" * 100_000
    await meeting.client.send(b"question")
    assert await meeting.stream.receive_some() == b"question"
    assert meeting.stream.identity == "" and not meeting.stream.resumed
    await meeting.close()


async def test_what_came_in_many_records_is_received_at_once(make, authority):
    meeting = await Meeting(make(), client_context(authority)).shake_hands()
    for _ in range(5):
        await meeting.client.send(b"question ")
    assert await meeting.stream.receive_some() == b"question " * 5
    await meeting.close()


async def test_both_ends_say_goodbye(make, authority):
    meeting = await Meeting(make(), client_context(authority)).shake_hands()
    with pytest.raises(ssl.SSLError):
        meeting.client.engine.unwrap()
    await meeting.client._flush()
    assert await meeting.stream.receive_some() == b""
    await meeting.close()
    meeting = await Meeting(make(), client_context(authority)).shake_hands()
    await meeting.stream.aclose()
    assert await meeting.client.receive() == b""
    meeting.client.close()


async def test_a_cancelled_send_leaves_no_half_record(make, authority, autojump_clock):
    meeting = await Meeting(make(), client_context(authority)).shake_hands()
    octets = os.urandom(4 << 20)
    with trio.move_on_after(1) as sending:
        await meeting.stream.send_all(octets)
    assert sending.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(meeting.stream.send_all, b"the end")
        assert await meeting.client.exactly(len(octets)) == octets
        assert await meeting.client.exactly(7) == b"the end"
    await meeting.close()


async def test_what_is_no_tls_ends_the_stream(make, authority):
    meeting = await Meeting(make(), client_context(authority)).shake_hands()
    await meeting.client.socket.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(trio.BrokenResourceError):
        await meeting.stream.receive_some()
    with pytest.raises(ssl.SSLError):
        await meeting.client.receive()
    await meeting.close()


# Versions, names, protocols


async def test_tls_1_2_must_be_allowed(make, authority):
    old = client_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await refusal(make(), old) == "TLSV1_ALERT_PROTOCOL_VERSION"
    meeting = await Meeting(make(allow_tls12=True), old).shake_hands()
    assert meeting.client.engine.version() == "TLSv1.2"
    await meeting.close()


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("proxy.test", "proxy.test"),
        ("other.test", "other.test"),
        ("OTHER.test", "other.test"),
        ("a.wild.test", "*.wild.test"),
        ("unknown.test", "proxy.test"),
        ("a.b.wild.test", "proxy.test"),
    ],
)
async def test_the_certificate_is_the_one_that_was_asked_for(make, authority, own, asked, shown):
    server = make(shown=(own, authority.server("other.test"), authority.server("*.wild.test")))
    context = client_context(authority)
    context.check_hostname = False
    meeting = await Meeting(server, context, name=asked).shake_hands()
    names = meeting.client.engine.getpeercert()["subjectAltName"]
    assert ("DNS", shown) in names
    await meeting.close()


@pytest.mark.parametrize(("offered", "agreed"), [(("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None)])
async def test_the_protocol(make, authority, offered, agreed):
    meeting = await Meeting(make(alpn=("h2", "http/1.1")), client_context(authority, alpn=offered)).shake_hands()
    assert meeting.stream.alpn == agreed
    await meeting.close()


# What may change while we run


async def test_a_new_certificate_is_shown_to_the_next_client(make, authority, tmp_path):
    server = make()
    first = await Meeting(server, client_context(authority)).shake_hands()
    authority.server("proxy.test", "new.test").write(tmp_path, "server0")
    second = await Meeting(server, client_context(authority)).shake_hands()
    assert ("DNS", "new.test") in second.client.engine.getpeercert()["subjectAltName"]
    assert await first.say(b"still here") == b"still here"
    for meeting in (first, second):
        await meeting.close()


async def test_a_broken_certificate_is_told_once_and_not_shown(make, authority, tmp_path, caplog):
    server = make()
    await (await Meeting(server, client_context(authority)).shake_hands()).close()
    (tmp_path / "server0.pem").write_text("-----BEGIN CERTIFICATE-----\nhalf")
    for _ in range(3):
        await (await Meeting(server, client_context(authority)).shake_hands()).close()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_terms_stay_while_nothing_changes(make):
    now = [0.0]
    server = make("request", now=lambda: now[0])
    terms = server.terms()
    now[0] = TICKET_LIFE - 1
    assert server.terms() is terms
    now[0] = TICKET_LIFE
    assert server.terms() is not terms


def test_without_a_certificate_there_are_no_terms(make):
    with pytest.raises(DohproxyError, match="no certificate to show"):
        make(shown=()).terms()


# Who the client is


async def test_the_client_is_whom_its_certificate_names(make, authority):
    for own, identity in ((None, ""), (authority.client("web", PAY), PAY), (authority.client("x", "x.test"), "dns:x.test")):
        meeting = await Meeting(make("request"), client_context(authority, own)).shake_hands()
        assert await meeting.say(b"hello") == b"hello"
        assert meeting.stream.identity == identity
        await meeting.close()


async def test_who_is_not_asked_is_nobody(make, authority):
    meeting = await Meeting(make("none"), client_context(authority, authority.client("web", PAY))).shake_hands()
    assert await meeting.say(b"hello") == b"hello" and meeting.stream.identity == ""
    await meeting.close()


@pytest.mark.parametrize("auth", ["request", "require"])
async def test_a_certificate_that_does_not_verify_is_refused_with_an_alert(make, authority, stranger, auth):
    past = Validity.around(datetime.now(UTC) - timedelta(days=30), days=1)
    refused = {
        "TLSV1_ALERT_UNKNOWN_CA": stranger.client("web", PAY),
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": authority.client("web", PAY, validity=past),
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": authority.server("web"),
        "SSLV3_ALERT_BAD_RECORD_MAC": authority.client("web", PAY, PAY + "2"),  # what OpenSSL can be made to say
    }
    assert {reason: await refusal(make(auth), client_context(authority, own)) for reason, own in refused.items()} == {
        reason: reason for reason in refused
    }


async def test_a_certificate_may_be_required(make, authority):
    assert await refusal(make("require"), client_context(authority)) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


async def test_a_trust_domain_is_vouched_for_by_its_own(make, authority, stranger, tmp_path):
    domains = (settings.TrustDomain("prod.example", stranger.write(tmp_path, "prod")),)
    server = make("require", trust_domains=domains)
    meeting = await Meeting(server, client_context(authority, stranger.client("web", PAY))).shake_hands()
    assert await meeting.say(b"hello") == b"hello" and meeting.stream.identity == PAY
    await meeting.close()
    forged = client_context(authority, authority.client("web", PAY))
    assert await refusal(server, forged) == "SSLV3_ALERT_BAD_RECORD_MAC"


# Resumption


async def resumable(server, context):
    """A session, and who the client was in it."""
    meeting = await Meeting(server, context).shake_hands()
    assert await meeting.say(b"hello") == b"hello"
    session = meeting.client.engine.session
    assert session.has_ticket
    with pytest.raises(ssl.SSLError):
        meeting.client.engine.unwrap()
    await meeting.close()
    return session, meeting.stream.identity


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_resumed_session_is_the_same_clients(make, authority, version):
    server = make("request", allow_tls12=True)
    contexts = [client_context(authority, own) for own in (None, authority.client("web", PAY))]
    for context in contexts:
        context.maximum_version = version
    sessions = [await resumable(server, context) for context in contexts]
    for context, (session, identity) in zip(contexts, sessions, strict=True):
        meeting = await Meeting(server, context, session).shake_hands()
        assert await meeting.say(b"hello") == b"hello"
        assert meeting.stream.resumed and meeting.stream.identity == identity
        await meeting.close()


async def test_authorities_that_change_end_all_sessions(make, authority, stranger, tmp_path):
    server = make("request")
    context = client_context(authority, authority.client("web", PAY))
    session, _ = await resumable(server, context)
    stranger.write(tmp_path, "clients")
    meeting = Meeting(server, context, session)
    assert await refused(meeting) == "TLSV1_ALERT_UNKNOWN_CA"


async def test_tickets_end_with_their_keys(make, authority):
    now = [0.0]
    server = make(now=lambda: now[0])
    context = client_context(authority)
    session, _ = await resumable(server, context)
    now[0] = TICKET_LIFE
    meeting = await Meeting(server, context, session).shake_hands()
    assert not meeting.stream.resumed and await meeting.say(b"hello") == b"hello"
    await meeting.close()


async def test_a_certificate_that_expired_since_is_not_resumed(make, authority, monkeypatch, tmp_path):
    server = make("request")
    soon = Validity(datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1))
    context = client_context(authority, authority.client("web", PAY, validity=soon))
    session, _ = await resumable(server, context)
    later = datetime.now(UTC).timestamp() + 2 * 3600
    monkeypatch.setattr("dohproxy.listen.tls.time.time", lambda: later)
    meeting = Meeting(server, context, session)
    await refused(meeting)
    assert "dates" in str(meeting.failed)
    context.load_cert_chain(*authority.client("web", PAY).write(tmp_path, "renewed"))
    meeting = await Meeting(server, context, session).shake_hands()  # which is not held against it for ever
    assert await meeting.say(b"hello") == b"hello"
    assert meeting.stream.identity == PAY and not meeting.stream.resumed
    await meeting.close()


# Connections


class Visit:
    """A connection that is being served, and its client."""

    def __init__(self, nursery, server, intake, context, speak=speak_dns):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.client = TlsPeer(theirs, context)
        self.connection = Encrypted(TlsStream(ours, server.terms()), "192.0.2.1", speak, intake, server.holds)
        self.ended = trio.Event()
        nursery.start_soon(self._run)

    async def _run(self):
        await self.connection.run()
        self.ended.set()


async def test_dns_over_tls(make, authority, intake, nursery, front):
    visit = Visit(nursery, make("request"), intake, client_context(authority, authority.client("web", PAY)))
    await visit.client.shake_hands()
    await visit.client.send(b"\0\x0c" + b"one".ljust(12) + b"\0\x0c" + b"hit".ljust(12))
    heard = await visit.client.exactly(28)
    assert {heard[2:14].rstrip(), heard[16:].rstrip()} == {b"ONE", b"HIT"}
    assert front.asked == [(b"one".ljust(12), Attested("192.0.2.1", PAY), Transport.DOT)]
    counters = intake.counters
    assert (counters.dot_queries, counters.tcp_queries, counters.tls_handshakes, counters.tls_failed) == (2, 0, 1, 0)
    visit.client.close()
    await visit.ended.wait()


async def test_why_a_client_is_refused_is_in_the_log_for_debugging(make, authority, intake, nursery, caplog):
    caplog.set_level("DEBUG", "dohproxy.listen")
    visit = Visit(nursery, make("request"), intake, client_context(authority, authority.client("web", PAY, PAY + "2")))
    with suppress(ssl.SSLError):
        await visit.client.shake_hands()
        await visit.client.receive()
    visit.client.close()
    await visit.ended.wait()
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith("no connection with a client by TLS: ") and "URI" in told


async def test_a_handshake_is_not_waited_for_long(make, authority, intake, nursery, autojump_clock):
    visit = Visit(nursery, make(), intake, client_context(authority))
    await visit.client.socket.send(b"\x16\x03\x01\x02\0\x01")
    await trio.sleep(OPENING - 1)
    assert visit.connection.idle and not visit.ended.is_set()
    await visit.ended.wait()
    assert trio.current_time() - visit.connection.idle_since == pytest.approx(OPENING, abs=0.1)
    assert intake.counters.tls_failed == 1
    visit.client.close()


@pytest.mark.parametrize("end", ["stop", "close"])
async def test_a_handshake_can_be_ended(make, authority, intake, nursery, end):
    visit = Visit(nursery, make(), intake, client_context(authority))
    await wait_all_tasks_blocked()
    getattr(visit.connection, end)()
    await visit.ended.wait()
    visit.client.close()


async def test_an_idle_connection_is_closed_with_a_goodbye(make, authority, intake, nursery, autojump_clock):
    visit = Visit(nursery, make(), intake, client_context(authority))
    await visit.client.shake_hands()
    assert await visit.client.receive() == b""
    await visit.ended.wait()
    visit.client.close()


async def test_a_client_that_does_not_read_is_given_up(make, authority, intake, nursery, front, autojump_clock):
    front.size = 60_000
    visit = Visit(nursery, make(), intake, client_context(authority))
    await visit.client.shake_hands()
    for _ in range(200):
        await visit.client.send(b"\0\x0c" + b"one".ljust(12))
    await visit.ended.wait()
    assert intake.counters.tcp_broken == 1 and len(front.asked) <= 200
    visit.client.close()


# Listeners


@pytest.fixture
def serve(make, make_intake, listening, nursery):
    """Start one listener in clear and one under TLS, which share their limits; gives the intake and where to connect."""

    def start(**limits):
        intake = make_intake(**limits)
        table = ConnectionTable(intake.limits, intake.counters)
        places = []
        for speak in (speak_plainly, Under(make())):
            sock = listening("tcp")
            places.append(sock.getsockname())
            listener = TcpListener(sock, intake, table, speak)
            nursery.start_soon(listener.run)
        return intake, *places

    return start


async def ask(place, authority, text=b"one"):
    """A client that has its answer and stays."""
    peer = TlsPeer(socket.create_connection(place), client_context(authority))
    await peer.shake_hands()
    await peer.send(b"\0\x0c" + text.ljust(12))
    assert (await peer.exactly(14))[2:].rstrip() == text.upper()
    return peer


async def until(true):
    with trio.fail_after(10):
        while not true():
            await trio.lowlevel.checkpoint()


async def test_whoever_only_knocks_makes_room_for_others(serve, authority):
    intake, _, place = serve(tcp_connections=3)
    knocking = [socket.create_connection(place) for _ in range(3)]
    await until(lambda: intake.counters.tcp_open == 3)
    clients = [await ask(place, authority) for _ in range(3)]
    assert intake.counters.tcp_displaced == 3 and intake.counters.tcp_open == 3
    for open_ in (*knocking, *clients):
        open_.close()
    await until(lambda: not intake.counters.tcp_open)
    assert intake.counters.tls_handshakes == 3


async def test_limits_are_those_of_all_listeners_together(serve, authority):
    intake, clear, place = serve(tcp_connections_per_client=2)
    plain = socket.create_connection(clear)
    await until(lambda: intake.counters.tcp_open == 1)
    clients = [await ask(place, authority) for _ in range(5)]
    assert intake.counters.tcp_open == 2 and intake.counters.tcp_displaced == 4
    for open_ in (plain, *clients):
        open_.close()
    await until(lambda: not intake.counters.tcp_open)


async def test_what_is_no_handshake_is_counted_and_closed(serve):
    intake, _, place = serve()
    with socket.create_connection(place) as sock:
        sock.sendall(b"\0\x0c" + bytes(12))
        await until(lambda: intake.counters.tls_failed == 1 and not intake.counters.tcp_open)


# How long it stays who it was


@pytest.fixture
def wall(monkeypatch, autojump_clock):
    """A wall clock that goes with trio's; what is in it is how far it was set."""
    now = autojump_clock.current_time
    began, set_ = datetime.now(UTC).timestamp() - now(), [0.0]
    monkeypatch.setattr("dohproxy.listen.tls.time.time", lambda: began + set_[0] + now())
    return set_


def for_seconds(authority, seconds):
    now = datetime.now(UTC)
    validity = Validity(now - timedelta(hours=1), now + timedelta(seconds=seconds))
    return client_context(authority, authority.client("web", PAY, validity=validity))


async def visit_and_ask(nursery, server, intake, context):
    visit = Visit(nursery, server, intake, context)
    await visit.client.shake_hands()
    await visit.client.send(b"\0\x0c" + b"one".ljust(12))
    assert (await visit.client.exactly(14))[2:].rstrip() == b"ONE"
    return visit


async def test_a_connection_ends_with_its_clients_certificate(
    make, authority, make_intake, nursery, front, wall, autojump_clock
):
    server, intake = make("request"), make_intake(tcp_idle_timeout=1e6)
    began = trio.current_time()
    visit = await visit_and_ask(nursery, server, intake, for_seconds(authority, 100))
    gate = front.gates[b"slow"] = trio.Event()
    await visit.client.send(b"\0\x0c" + b"slow".ljust(12))
    await trio.sleep(98)
    assert len(front.asked) == 2
    await trio.sleep(5)
    await visit.client.send(b"\0\x0c" + b"late".ljust(12))
    gate.set()
    assert (await visit.client.exactly(14))[2:].rstrip() == b"SLOW"  # it was asked in time
    assert await visit.client.receive() == b""
    await visit.ended.wait()
    assert len(front.asked) == 2 and trio.current_time() - began == pytest.approx(103)
    assert intake.counters.tcp_broken == 0
    visit.client.close()


async def test_http_says_goodbye_when_its_clients_certificate_ends(make, authority, make_intake, nursery, wall, autojump_clock):
    context, began = for_seconds(authority, 100), trio.current_time()
    context.set_alpn_protocols(["h2"])
    speak = SpeakHttp(Site("/dns-query", json=False))
    visit = Visit(nursery, make("request", alpn=ALPN), make_intake(tcp_idle_timeout=1e6), context, speak)
    await visit.client.shake_hands()
    http = H2Connection()
    http.initiate_connection()
    await visit.client.send(http.data_to_send())
    seen = []
    while octets := await visit.client.receive():
        seen += http.receive_data(octets)
    [goodbye] = [event for event in seen if isinstance(event, ConnectionTerminated)]
    assert goodbye.error_code == ErrorCodes.NO_ERROR
    assert trio.current_time() - began == pytest.approx(100, abs=2)
    visit.client.close()


async def test_whoever_showed_no_certificate_stays(make, authority, make_intake, nursery, wall, autojump_clock):
    visit = await visit_and_ask(nursery, make("request"), make_intake(tcp_idle_timeout=1e6), client_context(authority))
    await trio.sleep(80_000)
    assert not visit.ended.is_set()
    visit.client.close()


async def test_a_clock_that_is_set_is_noticed(make, authority, make_intake, nursery, wall, autojump_clock):
    intake = make_intake(tcp_idle_timeout=1e6)
    visit = await visit_and_ask(nursery, make("request"), intake, for_seconds(authority, 7200))
    wall[0] = 7300
    began = trio.current_time()
    assert await visit.client.receive() == b""
    assert trio.current_time() - began <= LOOK
    visit.client.close()


@pytest.mark.parametrize("change", ["file", "settings"])
async def test_a_connection_ends_when_nobody_vouches_for_its_client(
    make, authority, stranger, make_intake, nursery, wall, autojump_clock, tmp_path, change
):
    server, intake = make("request"), make_intake(tcp_idle_timeout=1e6)
    visit = await visit_and_ask(nursery, server, intake, client_context(authority, authority.client("web", PAY)))
    (tmp_path / "clients.pem").write_bytes(authority.pem + stranger.pem)
    await trio.sleep(10 * LOOK)
    assert not visit.ended.is_set()
    if change == "file":
        stranger.write(tmp_path, "clients")
    else:
        server.use(make("none")._credentials)
    began = trio.current_time()
    assert await visit.client.receive() == b""
    assert trio.current_time() - began <= LOOK
    visit.client.close()
