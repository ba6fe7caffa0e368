"""The composition, in front of a lab: what a reload keeps, and what it makes anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest
import trio
from msgspec.structs import replace

from dohproxy.build import RELEASED, Meaning, anchors_of, limits_of, negative_anchors_of, rehearsed
from dohproxy.config.load import parse
from dohproxy.config.settings import Anchor, Dnssec, Settings, Spiffe, Upstream, Zone
from dohproxy.errors import ConfigError, NotReady
from dohproxy.identity.own import BadCertificate
from dohproxy.lab.certificates import Authority
from dohproxy.lab.lab import Lab, open_lab
from dohproxy.model import Mode, Transport
from dohproxy.service import Service
from dohproxy.wire import names
from dohproxy.wire.constants import DS

ZONE = names.from_text("cluster.local")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as lab:
        yield lab


def settings(lab: Lab, more: str = "", old: str = "", new: str = "") -> Settings:
    return parse(lab.config_toml(5300, more=more).replace(old, new), "test.toml", lab.directory)


async def ask(service: Service, name: str, **more: object) -> dns.message.Message:
    wire = dns.message.make_query(name, "A", want_dnssec=True, **more).to_wire()  # type: ignore[arg-type]
    return dns.message.from_wire(await service.front.answer(wire, "127.0.0.1", Transport.UDP))


async def test_a_change_of_policy_keeps_connections_and_what_is_known(lab: Lab) -> None:
    service = Service(settings(lab), [])
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        assert (await ask(service, "www.rsa.lab")).flags & dns.flags.AD
        asked, connections = lab.faults.asked.total(), lab.faults.connections
        await service.reload(settings(lab, more='deny = ["www.ecdsa.lab"]'))
        assert (await ask(service, "www.ecdsa.lab")).rcode() == dns.rcode.NXDOMAIN
        assert (await ask(service, "www.rsa.lab")).flags & dns.flags.AD
        assert (lab.faults.asked.total(), lab.faults.connections) == (asked, connections)
        nursery.cancel_scope.cancel()


async def test_shared_answers_are_there_after_a_restart_and_not_for_another_meaning(lab: Lab) -> None:
    shared = "[cache]\nshared = 'answers'\n"
    counts = []
    for more in (shared, shared, shared + "[dnssec]\nsha1 = false\n"):
        config = settings(lab, old="[dnssec]\n", new=more if "[dnssec]" in more else more + "[dnssec]\n")
        service = Service(config, [])
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            before = lab.faults.asked.total()
            assert (await ask(service, "www.ecdsa.lab")).flags & dns.flags.AD
            counts.append(lab.faults.asked.total() - before)
            nursery.cancel_scope.cancel()
    assert counts[0] > 0 and counts[1] == 0 and counts[2] > 0


async def test_a_file_of_shared_answers_that_is_of_no_use_is_left_alone(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    (lab.directory / "answers").write_text("")
    (lab.directory / "answers").chmod(0o666)
    service = Service(settings(lab, old="[dnssec]\n", new="[cache]\nshared = 'answers'\n[dnssec]\n"), [])
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        assert (await ask(service, "www.ecdsa.lab")).flags & dns.flags.AD
        nursery.cancel_scope.cancel()
    assert "answers are not shared" in caplog.text


async def test_a_change_of_anchors_makes_all_of_it_anew(lab: Lab) -> None:
    service = Service(settings(lab), [])
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        assert (await ask(service, "www.rsa.lab")).flags & dns.flags.AD
        await service.reload(settings(lab, old='mode = "validate"', new='mode = "off"'))
        got = await ask(service, "www.rsa.lab")
        assert (got.rcode(), bool(got.flags & dns.flags.AD)) == (dns.rcode.NOERROR, False)
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_built_changes_nothing(lab: Lab) -> None:
    service, good = Service(settings(lab), []), settings(lab)
    bad = settings(lab, more='deny = ["www.ecdsa.lab"]')
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        lab.list_file.unlink()
        with pytest.raises(ConfigError, match=r"ads\.txt"):
            await service.reload(bad)
        assert (await ask(service, "www.ecdsa.lab")).rcode() == dns.rcode.NOERROR
        lab.list_file.write_text("www.ecdsa.lab\n")
        await service.reload(good)
        assert (await ask(service, "www.ecdsa.lab")).rcode() == dns.rcode.NXDOMAIN
        nursery.cancel_scope.cancel()


async def test_a_service_that_does_not_run_is_not_ready(lab: Lab) -> None:
    service = Service(settings(lab), [])
    with pytest.raises(NotReady):
        await service.reload(settings(lab))
    assert (await ask(service, "www.rsa.lab")).rcode() == dns.rcode.SERVFAIL


def test_a_root_anchor_of_one_s_own_replaces_the_built_in_ones() -> None:
    assert {anchor.zone for anchor in anchors_of(Dnssec(), (), RELEASED)} == {names.ROOT}
    own = Anchor(names.ROOT, DS, bytes(36))
    assert anchors_of(Dnssec(anchors=(own,)), (), RELEASED) == (own,)
    corp = Anchor(ZONE, DS, bytes(36))
    both = anchors_of(Dnssec(), (Zone(ZONE, (), anchors=(corp,)),), RELEASED)
    assert {anchor.zone for anchor in both} == {names.ROOT, ZONE}
    assert anchors_of(Dnssec(root_anchors="none"), (), RELEASED) == ()


def test_a_clock_that_was_never_set_finds_the_built_in_anchors() -> None:
    assert anchors_of(Dnssec(), (), 0) == anchors_of(Dnssec(), (), RELEASED)


def test_a_zone_that_is_not_validated_is_a_negative_anchor() -> None:
    zones = (Zone(ZONE, (Upstream("x", "udp", "10.0.0.1", 53),), mode=Mode.OFF), Zone(names.ROOT, ()))
    assert [anchor.name for anchor in negative_anchors_of(Dnssec(), zones)] == [ZONE]


def test_a_clock_set_by_hand_is_exact() -> None:
    assert (limits_of(Dnssec(override_time=5)).skew_min, limits_of(Dnssec(override_time=5)).skew_max) == (0, 0)
    assert (limits_of(Dnssec()).skew_min, limits_of(Dnssec()).skew_max) == (3600, 86400)


async def test_who_we_are_to_upstreams(lab: Lab, tmp_path: Path) -> None:
    certificate, key = Authority().client("proxy").write(tmp_path, "proxy")
    given = settings(lab)
    (upstream, *_) = given.upstreams
    shown = replace(upstream, client_certificate=certificate, client_key=str(key))
    rehearsed(replace(given, upstreams=(shown,)))
    key.write_bytes(b"")
    with pytest.raises(BadCertificate, match="no private key in PEM"):
        rehearsed(replace(given, upstreams=(shown,)))


async def test_a_workload_api_that_is_new_takes_a_restart(lab: Lab, tmp_path: Path) -> None:
    given = settings(lab)
    (upstream, *_) = given.upstreams
    with_svid = replace(given, upstreams=(replace(upstream, client_svid=True),), spiffe=Spiffe(tmp_path / "agent"))
    rehearsed(with_svid)
    service = Service(given, [])
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        with pytest.raises(BadCertificate, match="after a restart only"):
            await service.reload(with_svid)
        nursery.cancel_scope.cancel()


def test_where_the_way_of_packets_is_watched(tmp_path: Path) -> None:
    text = '[[upstream]]\nname = "a"\nurl = "tls://192.0.2.53"\n'
    odoh = '[[upstream]]\nurl = "https://t.example/"\nrelay = "https://198.51.100.7/"\nbootstrap = "a"\n'
    assert Meaning.of(parse(text, "test.toml", tmp_path)).addresses == ("192.0.2.53",)
    known = Meaning.of(parse(text + odoh, "test.toml", tmp_path)).addresses
    assert known == ("192.0.2.53", "198.51.100.7", "192.0.2.1", "2001:db8::1")


async def test_an_upstream_of_a_zone_is_found_by_the_general_ones(lab: Lab) -> None:
    """A zone's upstream, whose name the general one is asked for, and does not have."""
    found = '[[upstream]]\nname = "named"\nurl = "tls://nowhere.lab"\nbootstrap = "{}"\n'
    base = settings(lab)
    name = base.upstreams[0].name
    named = parse(found.format(name) + f'[[upstream]]\nname = "{name}"\nurl = "tls://192.0.2.1"\n', "test.toml", lab.directory)
    (lost, _) = named.upstreams
    zone = Zone(ZONE, (lost,), mode=Mode.OFF)
    service = Service(replace(base, zones=(zone,)), [])
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        reply = await ask(service, "a.cluster.local")
        nursery.cancel_scope.cancel()
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert "its addresses are not to be found: there are none" in " ".join(str(option.text) for option in reply.options)
