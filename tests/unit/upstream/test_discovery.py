"""Designated resolvers: what is told of them, and what they prove."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import dns.rrset
import pytest
import trio
from dns_peers import QUICK, Bench, Certificates
from http2_peers import Http2
from msgspec.structs import replace
from quic_peers import QuicBench

from dohproxy.cli.discover import lines_of, record_of
from dohproxy.config.settings import Upstream
from dohproxy.errors import NoReachableUpstream, ResolveError, UpstreamFailed
from dohproxy.lab.certificates import Authority
from dohproxy.upstream.discovery import Offer, discover

FORWARDING = replace(QUICK, timeout=3.0)
LIMIT = 10.0
Records = dict[str, list[str]]


@asynccontextmanager
async def plain(*services: str, others: Records | None = None, rcode: int = 0) -> AsyncIterator[int]:
    """A plain resolver on loopback that tells these SVCB records, and others by `name TYPE`; its port."""
    known = {"_dns.resolver.arpa. SVCB": list(services), **(others or {})}

    async def serve(sock: trio.socket.SocketType) -> None:
        while True:
            wire, peer = await sock.recvfrom(4096)
            query = dns.message.from_wire(wire)
            reply = dns.message.make_response(query)
            reply.set_rcode(rcode)
            question = query.question[0]
            if found := known.get(f"{question.name} {dns.rdatatype.to_text(question.rdtype)}"):
                reply.answer.append(dns.rrset.from_text_list(question.name, 300, "IN", question.rdtype, found))
            await sock.sendto(reply.to_wire(), peer)

    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, sock)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


async def offers_of(port: int, ca_file: Path | None = None) -> tuple[Offer, ...]:
    with trio.fail_after(LIMIT):
        return await discover(Upstream("", "ddr", "127.0.0.1", port, ca_file=ca_file), FORWARDING)


async def test_who_has_both_name_and_address_is_verified(bench: Bench) -> None:
    peer = await bench.serve()
    web = await bench.serve(Http2(), context=bench.certificates.context(bench.certificates.good, alpn="h2"))
    services = (
        f"2 dns.test. alpn=h2 port={web.port} ipv4hint=127.0.0.1 dohpath=/q{{?dns}}",
        f"1 dns.test. alpn=dot port={peer.port} ipv4hint=127.0.0.1",
    )
    async with plain(*services) as port:
        dot, doh = await offers_of(port, bench.certificates.ca)
    assert (dot.alpn, dot.verified_as, doh.alpn, doh.verified_as) == ("dot", "dns.test", "h2", "dns.test")
    assert lines_of("127.0.0.1", (dot, doh)) == [
        f"  1 dns.test. DNS over TLS, port {peer.port}, at 127.0.0.1: verified, as dns.test and as 127.0.0.1",
        f"  2 dns.test. DNS over HTTPS, port {web.port}, at 127.0.0.1: verified, as dns.test and as 127.0.0.1",
        "",
        "[[upstream]]",
        f'url = "tls://dns.test:{peer.port}"',
        f'ca_file = "{bench.certificates.ca}"',
        'addresses = ["127.0.0.1"]',
        "",
        "[[upstream]]",
        f'url = "https://dns.test:{web.port}/q{{?dns}}"',
        f'ca_file = "{bench.certificates.ca}"',
        'addresses = ["127.0.0.1"]',
    ]
    assert record_of(dot)["verified"] is True
    assert record_of(dot)["toml"].startswith("[[upstream]]\n")


async def test_who_has_the_address_alone_is_verified_as_that(bench: Bench) -> None:
    peer = await bench.serve()
    async with plain(f"1 elsewhere.test. alpn=dot port={peer.port} ipv4hint=127.0.0.1") as port:
        (offer,) = await offers_of(port, bench.certificates.ca)
    assert offer.verified_as == "127.0.0.1"
    assert 'tls_name = "127.0.0.1"' in lines_of("127.0.0.1", (offer,))
    assert lines_of("127.0.0.1", (offer,))[0].endswith("verified, as 127.0.0.1")


@pytest.mark.parametrize("names", [("dns.test",), ("dns.test", "127.0.0.2")])
async def test_who_has_not_the_address_is_not(bench: Bench, tmp_path: Path, names: tuple[str, ...]) -> None:
    authority = Authority()
    pair = authority.server(*names).write(tmp_path, "other")
    peer = await bench.serve(context=bench.certificates.context(pair))
    async with plain(f"1 dns.test. alpn=dot port={peer.port} ipv4hint=127.0.0.1") as port:
        (offer,) = await offers_of(port, authority.write(tmp_path))
    assert not offer.verified
    assert "not for 127.0.0.1 too" in offer.problem
    assert offer.opportunistic
    assert peer.queries == []
    told = "\n".join(lines_of("127.0.0.1", (offer,)))
    assert "RFC 9462 4.3" in told
    assert "[[upstream]]" not in told
    assert record_of(offer)["toml"] == ""


async def test_who_is_vouched_for_by_nobody_we_trust_is_not(bench: Bench) -> None:
    peer = await bench.serve()
    async with plain(f"1 dns.test. alpn=dot port={peer.port} ipv4hint=127.0.0.1") as port:
        (offer,) = await offers_of(port, bench.certificates.other_ca)
    assert not offer.verified
    assert "certificate is refused" in offer.problem


async def test_who_is_elsewhere_is_not_even_opportunistic(bench: Bench, unused_port: int) -> None:
    async with plain(f"1 dns.test. alpn=dot port={unused_port} ipv4hint=127.0.0.2") as port:
        (offer,) = await offers_of(port)
    assert (offer.verified, offer.opportunistic) == (False, False)
    assert "refused" in offer.problem


async def test_an_address_that_is_not_hinted_is_asked_for(bench: Bench) -> None:
    peer = await bench.serve()
    async with plain(f"1 dns.test. alpn=dot port={peer.port}", others={"dns.test. A": ["127.0.0.1"]}) as port:
        (offer,) = await offers_of(port, bench.certificates.ca)
    assert offer.verified
    async with plain(f"1 dns.test. alpn=dot port={peer.port}") as port:
        (offer,) = await offers_of(port, bench.certificates.ca)
    assert offer.problem == "its target has no address"


@pytest.mark.parametrize(
    ("service", "why"),
    [
        ("0 dns.test.", "alias"),
        ("1 . alpn=dot", "no target"),
        ("1 dns.test. alpn=dot mandatory=key777 key777=x", "key777"),
        ("1 dns.test.", "no protocol"),
        ("1 dns.test. alpn=imap ipv4hint=127.0.0.1", "not spoken here"),
        ("1 dns.test. alpn=h2 ipv4hint=127.0.0.1", "no path"),
        ('1 dns.test. alpn=h2 ipv4hint=127.0.0.1 dohpath="/q"', "no path"),
        ('1 dns.test. alpn=h3 ipv4hint=127.0.0.1 dohpath="/{+x}{?dns}"', "template"),
    ],
)
async def test_offers_that_are_of_no_use(service: str, why: str) -> None:
    async with plain(service) as port:
        (offer,) = await offers_of(port)
    assert (offer.upstream, offer.verified) == (None, False)
    assert why in offer.problem
    assert ": unusable: " in lines_of("127.0.0.1", (offer,))[0]
    assert record_of(offer)["url"] == ""


async def test_nobody_is_designated() -> None:
    async with plain() as port:
        assert await offers_of(port) == ()
    assert lines_of("127.0.0.1", ()) == ["127.0.0.1 designates nobody (RFC 9462)"]


async def failure(call: Callable[[], object]) -> ResolveError:
    with pytest.raises(ResolveError) as caught:
        await call()  # type: ignore[misc]
    return caught.value


async def test_one_malformed_record_spoils_all() -> None:
    async with plain("1 dns.test. alpn=dot ipv4hint=127.0.0.1", "2 dns.test. alpn=dot port=0") as port:
        error = await failure(lambda: offers_of(port))
    assert isinstance(error, UpstreamFailed)
    assert "SVCB" in str(error)


async def test_a_resolver_that_refuses_or_is_not_there(unused_port: int) -> None:
    async with plain(rcode=5) as port:
        assert "REFUSED from 127.0.0.1" in str(await failure(lambda: offers_of(port)))
    assert isinstance(await failure(lambda: offers_of(unused_port)), NoReachableUpstream)


async def test_over_quic(nursery: trio.Nursery, certificates: Certificates) -> None:
    bench = QuicBench(nursery, certificates)
    doq, doh3 = await bench.quic(), await bench.quic(http=True)
    services = (
        f"1 dns.test. alpn=doq port={doq.port} ipv4hint=127.0.0.1",
        f"2 dns.test. alpn=h3 port={doh3.port} ipv4hint=127.0.0.1 dohpath=/q{{?dns}}",
    )
    async with plain(*services) as port:
        found = await offers_of(port, certificates.ca)
        strangers = await offers_of(port, certificates.other_ca)
    assert [(one.upstream.name, one.verified_as) for one in found if one.upstream is not None] == [
        (f"quic://dns.test:{doq.port}", "dns.test"),
        (f"h3://dns.test:{doh3.port}/q{{?dns}}", "dns.test"),
    ]
    assert [one.verified for one in strangers] == [False, False]


async def test_over_quic_the_address_counts_too(nursery: trio.Nursery, certificates: Certificates, tmp_path: Path) -> None:
    bench, authority = QuicBench(nursery, certificates), Authority()
    peer = await bench.quic(pair=authority.server("dns.test").write(tmp_path, "other"))
    async with plain(f"1 dns.test. alpn=doq port={peer.port} ipv4hint=127.0.0.1") as port:
        (offer,) = await offers_of(port, authority.write(tmp_path))
    assert not offer.verified
    assert "designated it" in offer.problem
    assert peer.queries == []
