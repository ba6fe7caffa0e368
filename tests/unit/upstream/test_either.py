from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from math import inf
from pathlib import Path

import dns.message
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest
import trio
from dns_peers import QUICK, Certificates, Peer, ask, reply_to
from http2_peers import Http2, Request
from msgspec.structs import replace
from quic_peers import QuicBench, QuicPeer, silence

from dohproxy.config.settings import Forwarding
from dohproxy.errors import NoReachableUpstream
from dohproxy.model import Answer, RRset, Transport
from dohproxy.upstream.doh3 import Doh3
from dohproxy.upstream.either import Either
from dohproxy.upstream.schemes import open_upstream
from dohproxy.upstream.upgraded import Upgraded, _http3_in
from dohproxy.wire.names import from_text

LIMIT = 10.0
"""Seconds that no test of this file comes near, unless something hangs."""


@pytest.fixture
def bench(nursery: trio.Nursery, certificates: Certificates) -> QuicBench:
    return QuicBench(nursery, certificates)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LIMIT):
        while not condition():  # noqa: ASYNC110 - there is no event for what a peer sees
            await trio.sleep(0.002)


async def either(bench: QuicBench, port: int, scheme: str = "quic", forwarding: Forwarding = QUICK, **fields: object) -> Either:
    opened = open_upstream(bench.settings(port, scheme, **fields), forwarding)
    assert isinstance(opened, Either)
    await bench.nursery.start(opened.run)
    return opened


async def both(bench: QuicBench, *, deaf: bool = False) -> tuple[QuicPeer, Peer]:
    """A server of DoQ and one of DoT on the same port."""
    over_tcp = await bench.serve()
    over_quic = await bench.quic(port=over_tcp.port)
    over_quic.deaf = deaf
    return over_quic, over_tcp


async def test_quic_has_the_questions_where_it_gets_through(bench: QuicBench) -> None:
    _, over_tcp = await both(bench)
    upstream = await either(bench, over_tcp.port)
    for _ in range(3):
        assert (await upstream.resolve(ask())).transport is Transport.DOQ
    assert over_tcp.connections == 0


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """QUIC is tried again sooner than people would."""
    monkeypatch.setattr("dohproxy.upstream.either.FIRST_PAUSE", 0.1)


async def test_tcp_takes_over_at_once_and_quic_comes_back(bench: QuicBench, caplog: pytest.LogCaptureFixture) -> None:
    over_quic, over_tcp = await both(bench, deaf=True)
    upstream = await either(bench, over_tcp.port, forwarding=replace(QUICK, connect_timeout=0.5))
    began = trio.current_time()
    assert (await upstream.resolve(ask())).transport is Transport.DOT
    assert 0.2 < trio.current_time() - began < 0.5
    began = trio.current_time()
    for _ in range(5):
        assert (await upstream.resolve(ask())).transport is Transport.DOT
    assert trio.current_time() - began < 0.2
    await until(lambda: "does not get through" in caplog.text)
    over_quic.deaf = False
    await until(lambda: "over QUIC again" in caplog.text)
    assert (await upstream.resolve(ask())).transport is Transport.DOQ
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 2


async def test_nobody_at_the_udp_port(bench: QuicBench) -> None:
    over_tcp = await bench.serve()
    upstream = await either(bench, over_tcp.port)
    began = trio.current_time()
    assert (await upstream.resolve(ask())).transport is Transport.DOT
    assert trio.current_time() - began < 0.2


async def test_quic_that_is_blocked_amid_its_use(bench: QuicBench) -> None:
    over_quic, over_tcp = await both(bench)
    upstream = await either(bench, over_tcp.port)
    assert (await upstream.resolve(ask())).transport is Transport.DOQ
    over_quic.deaf = True
    began = trio.current_time()
    exchange = upstream.begin(ask())
    await until(lambda: not upstream.swift.is_open)  # type: ignore[union-attr]
    exchange.drop()
    assert (await upstream.resolve(ask())).transport is Transport.DOT
    assert trio.current_time() - began < 1.6


async def test_a_slow_handshake_is_overtaken_and_still_used(bench: QuicBench, caplog: pytest.LogCaptureFixture) -> None:
    over_quic, over_tcp = await both(bench, deaf=True)
    upstream = await either(bench, over_tcp.port)
    assert (await upstream.resolve(ask())).transport is Transport.DOT
    over_quic.deaf = False  # before the first attempt has failed
    await until(lambda: len(over_quic.handshakes) == 1)
    await until(lambda: not upstream._leans)
    assert (await upstream.resolve(ask())).transport is Transport.DOQ
    assert not caplog.records


async def test_another_network_is_tried_at_once(bench: QuicBench, caplog: pytest.LogCaptureFixture) -> None:
    over_quic, over_tcp = await both(bench, deaf=True)
    upstream = await either(bench, over_tcp.port, forwarding=replace(QUICK, connect_timeout=0.3))
    await upstream.resolve(ask())
    await until(lambda: "does not get through" in caplog.text)
    over_quic.deaf = False
    began = trio.current_time()
    upstream.renew()
    await until(lambda: not upstream._leans)
    assert trio.current_time() - began < 0.5


async def test_neither_way(bench: QuicBench, unused_port: int) -> None:
    upstream = await either(bench, unused_port)
    with pytest.raises(NoReachableUpstream, match="refused"):
        await upstream.resolve(ask())


async def test_an_untrusted_server_is_untrusted_by_either_way(bench: QuicBench) -> None:
    over_quic, over_tcp = await both(bench)
    upstream = await either(bench, over_tcp.port, tls_name="other.test")
    with pytest.raises(NoReachableUpstream, match="refused"):
        await upstream.resolve(ask())
    assert not over_quic.queries
    assert not over_tcp.queries


@pytest.mark.parametrize(
    ("certificate", "demanding", "why"),
    [
        ("stranger", False, "its certificate is refused: it is not for dns.test"),
        ("expired", False, "its certificate is refused: certificate has expired"),
        ("good", True, "the server wants a certificate of us"),
    ],
)
async def test_why_a_handshake_is_refused_is_told_and_not_that_nothing_gets_through(
    bench: QuicBench, caplog: pytest.LogCaptureFixture, certificate: str, demanding: bool, why: str
) -> None:
    over_tcp = await bench.serve()
    pair = getattr(bench.certificates, certificate)
    await bench.quic(port=over_tcp.port, pair=pair, requires_certificate=demanding)
    upstream = await either(bench, over_tcp.port)
    for _ in range(2):
        assert (await upstream.resolve(ask())).transport is Transport.DOT  # which is verified too
    await until(lambda: bool(caplog.records))
    [told] = [record.getMessage() for record in caplog.records]
    assert told == f"upstream peer is asked over TCP: over QUIC, {why}"


async def test_a_late_answer_is_awaited_again(bench: QuicBench) -> None:
    over_quic, over_tcp = await both(bench)
    over_quic.answering = silence
    upstream = await either(bench, over_tcp.port)
    exchange = upstream.begin(ask())
    assert await exchange.answer(trio.current_time() + 0.1) is None
    assert await exchange.answer(trio.current_time() + 0.1) is None
    exchange.drop()
    await until(lambda: bool(over_quic.cancelled))


async def test_a_first_flight_into_silence_is_answered_over_tcp(bench: QuicBench) -> None:
    over_quic, over_tcp = await both(bench)
    upstream = await either(bench, over_tcp.port, forwarding=replace(QUICK, idle_timeout=0.05), zero_rtt=True)
    assert (await upstream.resolve(ask())).transport is Transport.DOQ
    await until(lambda: "no connection" in repr(upstream.swift))
    over_quic.deaf = True
    began = trio.current_time()
    assert (await upstream.resolve(ask())).transport is Transport.DOT
    assert trio.current_time() - began < 0.5


async def test_a_server_without_tcp_is_not_forgotten(bench: QuicBench, unused_port: int) -> None:
    """After an outage, in which TCP was to take over: nobody is there to take questions over TCP."""
    over_quic = await bench.quic(port=unused_port)
    over_quic.deaf = True
    upstream = await either(bench, unused_port, forwarding=replace(QUICK, connect_timeout=0.4))
    for _ in range(3):
        with pytest.raises(NoReachableUpstream):
            await upstream.resolve(ask())
    over_quic.deaf = False
    with trio.fail_after(1):
        assert (await upstream.resolve(ask())).transport is Transport.DOQ


# Alt-Svc


async def _offering(bench: QuicBench, offer: bytes) -> Peer:
    async def answering(http: Http2, stream_id: int, request: Request) -> None:
        await http.respond(stream_id, reply_to(request.query), **{"alt-svc": offer})

    return await bench.serve(Http2(answering), context=bench.certificates.context(bench.certificates.good, alpn="h2"))


async def test_http3_once_the_server_offers_it(bench: QuicBench) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _offering(bench, b'h3=":%d"; ma=3600' % over_quic.port)
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    assert (await upstream.resolve(ask())).transport is Transport.DOH
    await until(lambda: upstream.swift is not None)
    assert (await upstream.resolve(ask())).transport is Transport.DOH3
    assert (await upstream.resolve(ask())).transport is Transport.DOH3
    assert over_quic.requests[-1][b":authority"] == b"dns.test:%d" % over_tcp.port  # the origin's


async def test_an_offer_that_is_over(bench: QuicBench) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _offering(bench, b'h3=":%d"; ma=1' % over_quic.port)
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    await upstream.resolve(ask())
    await until(lambda: upstream.swift is not None)
    assert (await upstream.resolve(ask())).transport is Transport.DOH3
    upstream._until = trio.current_time()
    assert (await upstream.resolve(ask())).transport is Transport.DOH
    assert (await upstream.resolve(ask())).transport is Transport.DOH3  # it was offered again


async def test_no_upgrade_unless_it_is_wanted(bench: QuicBench) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _offering(bench, b'h3=":%d"' % over_quic.port)
    doh = await bench.doh(over_tcp.port)
    for _ in range(2):
        assert (await doh.resolve(ask())).transport is Transport.DOH


async def test_an_offer_of_what_is_not_there(bench: QuicBench) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:  # never read
        taken.bind(("127.0.0.1", 0))
        over_tcp = await _offering(bench, b'h3=":%d"' % taken.getsockname()[1])
        upstream = await either(bench, over_tcp.port, "https", upgrade=True)
        for _ in range(3):
            assert (await upstream.resolve(ask())).transport is Transport.DOH


async def test_a_way_to_another_port_lets_the_old_one_finish(bench: QuicBench) -> None:
    slow, over_quic = await bench.quic(silence, http=True), await bench.quic(http=True)
    over_tcp = await _offering(bench, b'h3=":%d"' % slow.port)
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    assert isinstance(upstream, Upgraded)
    assert (await upstream.resolve(ask())).transport is Transport.DOH
    await until(lambda: upstream.swift is not None)
    old = upstream.swift
    assert old is not None
    exchange = old.begin(ask())
    await until(lambda: bool(slow.requests))
    upstream._swap_at = trio.current_time()
    upstream._told(b'h3=":%d"' % over_quic.port)
    await until(lambda: upstream.swift not in (None, old))
    assert await exchange.answer(trio.current_time() + 0.05) is None  # it is still waited for, and has not failed
    assert (await upstream.swift.resolve(ask())).transport is Transport.DOH3  # type: ignore[union-attr]


async def test_a_server_that_names_ever_other_ports_has_the_first_for_a_while(bench: QuicBench) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _offering(bench, b'h3=":%d"' % over_quic.port)
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    assert isinstance(upstream, Upgraded)
    await upstream.resolve(ask())
    await until(lambda: upstream.swift is not None)
    first = upstream.swift
    for port in range(1, 100):
        upstream._told(b'h3=":%d"' % port)
    await trio.testing.wait_all_tasks_blocked()
    assert upstream.swift is first
    upstream._swap_at = trio.current_time()
    upstream._told(b'h3=":1"')
    await until(lambda: upstream.swift not in (None, first))


async def test_authorities_that_are_gone_leave_the_question_to_http2(
    bench: QuicBench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _offering(bench, b'h3=":%d"' % over_quic.port)
    settings = bench.settings(over_tcp.port, "https", upgrade=True)
    assert settings.ca_file is not None
    kept = tmp_path / "ca.pem"
    kept.write_bytes(settings.ca_file.read_bytes())
    upstream = open_upstream(replace(settings, ca_file=kept), QUICK)
    assert isinstance(upstream, Upgraded)
    await bench.nursery.start(upstream.run)
    kept.unlink()
    assert (await upstream.resolve(ask())).transport is Transport.DOH
    assert "cannot be asked by HTTP/3" in caplog.text and upstream.swift is None
    kept.write_bytes(settings.ca_file.read_bytes())
    upstream._swap_at = trio.current_time()
    assert (await upstream.resolve(ask())).transport is Transport.DOH
    await until(lambda: upstream.swift is not None)


async def test_a_way_that_ends_by_a_defect_is_asked_no_more(bench: QuicBench, monkeypatch: pytest.MonkeyPatch) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _offering(bench, b'h3=":%d"' % over_quic.port)
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    broken = trio.Event()

    async def run(self: Doh3, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await broken.wait()
        raise ZeroDivisionError

    monkeypatch.setattr(Doh3, "run", run)
    await upstream.resolve(ask())
    await until(lambda: upstream.swift is not None)
    broken.set()
    await until(lambda: upstream.swift is None)
    assert (await upstream.resolve(ask())).transport is Transport.DOH


# HTTPS records


async def _recording(bench: QuicBench, *records: str, ttl: int = 3600) -> Peer:
    """A server that has these records of its own name, and says nothing by Alt-Svc."""

    async def answering(http: Http2, stream_id: int, request: Request) -> None:
        query = dns.message.from_wire(request.query)
        reply = request.query
        if query.question[0].rdtype == dns.rdatatype.HTTPS:
            assert query.question[0].name.to_text() == f"_{peer.port}._https.dns.test."
            told = dns.message.make_response(query)
            told.answer = [dns.rrset.from_text_list(query.question[0].name, ttl, "IN", "HTTPS", records)] if records else []
            reply = told.to_wire().replace(b"\0\3bad", b"\0\4bad")
            asked.append(trio.current_time())
        else:
            reply = reply_to(request.query)
        await http.respond(stream_id, reply)

    asked: list[float] = []
    peer = await bench.serve(Http2(answering), context=bench.certificates.context(bench.certificates.good, alpn="h2"))
    peer.asked = asked  # type: ignore[attr-defined]
    return peer


async def test_http3_once_the_servers_record_says_so(bench: QuicBench) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _recording(bench, "2 . alpn=h3 port=1", f"1 dns.TEST. alpn=h2,h3 port={over_quic.port}")
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    assert (await upstream.resolve(ask())).transport is Transport.DOH
    await until(lambda: upstream.swift is not None)
    for _ in range(2):
        assert (await upstream.resolve(ask())).transport is Transport.DOH3
    assert over_quic.requests[-1][b":authority"] == b"dns.test:%d" % over_tcp.port  # the origin's


@pytest.mark.parametrize(
    "records",
    [
        [],
        ["1 . alpn=h2 port=PORT"],
        ["1 elsewhere.test. alpn=h3 port=PORT"],
        ["0 dns.test."],
        ["1 . mandatory=key99 alpn=h3 port=PORT key99=x"],
        ["1 . alpn=h3 port=PORT", "2 . key99=bad"],  # which is broken on its way
    ],
)
async def test_records_that_lead_nowhere(bench: QuicBench, records: list[str]) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _recording(bench, *(record.replace("PORT", str(over_quic.port)) for record in records))
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    assert isinstance(upstream, Upgraded)
    await upstream.resolve(ask())
    await until(lambda: upstream._ask_at != inf)
    for _ in range(2):
        assert (await upstream.resolve(ask())).transport is Transport.DOH
    assert upstream.swift is None and len(over_tcp.asked) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("owner", "target", "port"),
    [
        ("dns.test.", ".", 8443),
        ("DNS.test.", ".", 8443),
        ("elsewhere.test.", ".", None),
        ("elsewhere.test.", "dns.test.", 8443),
        ("dns.test.", "elsewhere.test.", None),
    ],
)
def test_a_record_that_an_alias_led_to_is_not_of_the_same_host(owner: str, target: str, port: int | None) -> None:
    rdata = dns.rdata.from_text("IN", "HTTPS", f"1 {target} alpn=h3 port=8443").to_wire()
    assert isinstance(rdata, bytes)
    told = RRset(owner=from_text(owner), rdtype=65, rdclass=1, ttl=300, rdatas=(rdata,))
    found = _http3_in(Answer(0, answer=(told,)), from_text("dns.test."), "dns.test", 443)
    assert (found and found.port) == port


async def test_a_record_is_asked_for_again_before_it_ends(bench: QuicBench) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _recording(bench, f"1 . alpn=h3 port={over_quic.port}", ttl=1)
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    assert isinstance(upstream, Upgraded)
    await upstream.resolve(ask())
    await until(lambda: upstream.swift is not None and upstream._ask_at != inf)
    now = trio.current_time()
    assert now + 50 < upstream._ask_at < upstream._until < now + 61  # a minute, whatever its TTL
    upstream._ask_at = now
    queries = len(over_quic.queries)
    assert (await upstream.resolve(ask())).transport is Transport.DOH3
    await until(lambda: len(over_quic.queries) == queries + 2)


async def test_a_server_of_another_name_at_the_port_of_the_record_is_not_asked(bench: QuicBench) -> None:
    over_quic = await bench.quic(http=True, pair=bench.certificates.stranger)
    over_tcp = await _recording(bench, f"1 . alpn=h3 port={over_quic.port}")
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    await upstream.resolve(ask())
    await until(lambda: upstream.swift is not None)
    for _ in range(2):
        assert (await upstream.resolve(ask())).transport is Transport.DOH
    assert not over_quic.queries


async def test_who_speaks_by_alt_svc_is_not_asked_for_a_record_again(bench: QuicBench) -> None:
    over_quic = await bench.quic(http=True)
    over_tcp = await _offering(bench, b'h3=":%d"; ma=3600' % over_quic.port)
    upstream = await either(bench, over_tcp.port, "https", upgrade=True)
    assert isinstance(upstream, Upgraded)
    await upstream.resolve(ask())
    await until(lambda: upstream.swift is not None)
    assert upstream._ask_at > trio.current_time() + 80_000


async def test_h3_falls_back_to_http2(bench: QuicBench) -> None:
    over_tcp = await bench.serve(Http2(), context=bench.certificates.context(bench.certificates.good, alpn="h2"))
    upstream = await either(bench, over_tcp.port, "h3")
    assert (await upstream.resolve(ask())).transport is Transport.DOH
    await bench.quic(http=True, port=over_tcp.port)
    await until(lambda: not upstream._leans)
    assert (await upstream.resolve(ask())).transport is Transport.DOH3
