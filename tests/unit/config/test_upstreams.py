"""How upstreams are found: stamps, bootstraps, relays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dohproxy.config.settings import Settings
from dohproxy.errors import Problem

Loaded = Callable[[str], Settings]
Problems = Callable[[str], list[Problem]]

STAMP = "sdns://AgMAAAAAAAAABzkuOS45LjkgKhX11qy258CQGt5Ou8dDsszUiQMrRuFkLwaTaDABJYoSZG5zOS5xdWFkOS5uZXQ6NDQzCi9kbnMtcXVlcnk"
TARGET = "sdns://BQcAAAAAAAAAF29kb2guY2xvdWRmbGFyZS1kbnMuY29tCi9kbnMtcXVlcnk"
RELAY = "sdns://hQcAAAAAAAAADDg5LjM4LjEzMS4zOAAYb2RvaC1ubC5hbGVrYmVyZy5uZXQ6NDQzBi9wcm94eQ"


def upstream(text: str, name: str = "") -> str:
    return "[[upstream]]\n" + (f'name = "{name}"\n' if name else "") + f"{text}\n"


def test_a_stamp_has_all_that_is_needed(loaded: Loaded) -> None:
    (found,) = loaded(upstream(f'url = "{STAMP}"')).upstreams
    assert (found.scheme, found.host, found.port, found.path) == ("https", "dns9.quad9.net", 443, "/dns-query")
    assert (found.tls_name, found.addresses, found.name) == ("dns9.quad9.net", ("9.9.9.9",), STAMP)
    assert [len(pin) for pin in found.tbs_pins] == [32]
    assert found.pins == ()


def test_addresses_override_a_stamps(loaded: Loaded) -> None:
    (found,) = loaded(upstream(f'url = "{STAMP}"\naddresses = ["192.0.2.1"]')).upstreams
    assert found.addresses == ("192.0.2.1",)


def test_a_stamp_of_plain_dns_is_refused_like_any(problems: Problems) -> None:
    (problem,) = problems(upstream('url = "sdns://AAEAAAAAAAAABzguOC44Ljg"'))
    assert "in clear" in problem.message


def test_who_is_asked_for_addresses(loaded: Loaded) -> None:
    first, second, third = loaded(
        upstream('url = "https://dns.example"\nbootstrap = "nine"')
        + upstream('url = "tls://9.9.9.9"', "nine")
        + upstream('url = "tls://other.example"\nbootstrap = "system"')
    ).upstreams
    assert (first.addresses, first.bootstrap) == ((), "nine")
    assert (second.addresses, second.bootstrap) == (("9.9.9.9",), "")
    assert (third.addresses, third.bootstrap) == ((), "system")


def test_a_zones_upstream_may_be_found_by_the_general_ones(loaded: Loaded) -> None:
    zone = '[[zone]]\nname = "corp.example"\n[[zone.upstream]]\nurl = "tls://dns.corp.example"\nbootstrap = "tls://9.9.9.9"\n'
    (found,) = loaded(upstream('url = "tls://9.9.9.9"') + zone).zones[0].upstreams
    assert found.bootstrap == "tls://9.9.9.9"


@pytest.mark.parametrize(
    ("text", "key", "why", "nearest"),
    [
        (
            upstream('url = "tls://a.example"\nbootstrap = "nime"') + upstream('url = "tls://9.9.9.9"', "nine"),
            "upstream[0].bootstrap",
            'no upstream "nime"',
            "nine",
        ),
        (
            upstream('url = "tls://a.example"\nbootstrap = "a"', "a"),
            "upstream[0].bootstrap",
            "a needs a",
            "",
        ),
        (
            upstream('url = "tls://9.9.9.9"\nbootstrap = "system"'),
            "upstream[0].bootstrap",
            "known already",
            "",
        ),
        (
            upstream(f'url = "{STAMP}"\nbootstrap = "system"'),
            "upstream[0].bootstrap",
            "known already",
            "",
        ),
        (
            upstream('url = "tls://9.9.9.9"')
            + '[[zone]]\nname = "corp.example"\nplaintext = true\n[[zone.upstream]]\nname = "c"\nurl = "udp://192.0.2.1"\n'
            + '[[zone.upstream]]\nurl = "tls://dns.corp.example"\nbootstrap = "c"\n',
            "zone[0].upstream[1].bootstrap",
            '"c" is asked in clear',
            "",
        ),
    ],
)
def test_bootstraps_that_cannot_be(problems: Problems, text: str, key: str, why: str, nearest: str) -> None:
    (problem,) = problems(text)
    assert problem.key == key
    assert why in problem.message
    assert problem.nearest == nearest


def test_circles_are_told_with_their_way(problems: Problems) -> None:
    found = problems(
        upstream('url = "tls://a.example"\nbootstrap = "b"', "a")
        + upstream('url = "tls://b.example"\nbootstrap = "c"', "b")
        + upstream('url = "https://c.example"\nrelay = "https://r.example"\nbootstrap = "a"', "c")
        + upstream('url = "tls://d.example"\nbootstrap = "a"', "d")
    )
    assert [(problem.key, problem.message.partition(": ")[2]) for problem in found] == [
        ("upstream[0].bootstrap", "a needs b needs c needs a"),
        ("upstream[1].bootstrap", "b needs c needs a needs b"),
        ("upstream[2].bootstrap", "c needs a needs b needs c"),
    ]


def test_a_relay_that_is_found_by_its_own_target(problems: Problems) -> None:
    relay = 'relay = { url = "https://r.example", bootstrap = "a" }'
    (problem,) = problems(upstream(f'url = "https://192.0.2.1/dns-query"\n{relay}', "a"))
    assert (problem.key, problem.message) == ("upstream[0].relay.bootstrap", "nobody would be asked first: a needs a")


def test_a_relay(loaded: Loaded) -> None:
    relay = 'relay = { url = "https://r.example/proxy", addresses = ["192.0.2.7"], tls_name = "x.example" }'
    (found,) = loaded(upstream(f'url = "https://t.example/dns-query"\n{relay}\nbootstrap = "system"')).upstreams
    assert found.relay is not None
    assert (found.relay.host, found.relay.path, found.relay.tls_name) == ("r.example", "/proxy", "x.example")
    assert (found.relay.addresses, found.addresses, found.bootstrap) == (("192.0.2.7",), (), "system")


def test_stamps_of_target_and_relay(loaded: Loaded, problems: Problems) -> None:
    both = f'url = "{TARGET}"\nrelay = "{RELAY}"\nbootstrap = "system"'
    (found,) = loaded(upstream(both)).upstreams
    assert found.relay is not None
    assert found.relay.addresses == ("89.38.131.38",)
    (problem,) = problems(upstream(f'url = "{TARGET}"\naddresses = ["192.0.2.1"]'))
    assert "through a relay" in problem.message


def test_a_target_whose_keys_are_known_is_never_connected_to(loaded: Loaded) -> None:
    relay = 'relay = { url = "https://r.example/proxy", addresses = ["192.0.2.7"] }'
    (found,) = loaded(upstream(f'url = "https://t.example/dns-query"\n{relay}\nodoh_config = "AAAA"')).upstreams
    assert (found.addresses, found.odoh_config) == ((), bytes(3))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('url = "https://192.0.2.1/q"\nrelay = "https://192.0.2.1/proxy"', "somebody else"),
        ('url = "https://192.0.2.1/q?a=b"\nrelay = "https://192.0.2.2/proxy"', "no query"),
        ('url = "h3://192.0.2.1/q"\nrelay = "https://192.0.2.2/proxy"', "the target is https"),
        ('url = "https://192.0.2.1/q"\nrelay = "https://192.0.2.2/proxy"\nmethod = "GET"', "through a relay"),
        ('url = "https://192.0.2.1/q"\nrelay = "https://192.0.2.2/proxy"\nupgrade = true', "through a relay"),
        ('url = "https://192.0.2.1/q"\nodoh_config = "AAAA"', "without relay"),
        ('url = "https://192.0.2.1/q"\nrelay = "tls://192.0.2.2"', "no relay"),
        ('url = "https://192.0.2.1/q"\nrelay = "https://192.0.2.2/"\nodoh_config = "?"', "base64"),
        ('url = "https://192.0.2.1/q"\nrelay = "https://r.example/"', "nothing is asked in clear"),
        ('url = "tls://192.0.2.1"\nrelay = "https://192.0.2.2/"', "means nothing for tls"),
    ],
)
def test_oblivious_doh_that_cannot_be(problems: Problems, text: str, why: str) -> None:
    (problem,) = problems(upstream(text))
    assert why in problem.message


def test_a_stamp_that_denies_dnssec_is_doubted(loaded: Loaded) -> None:
    text = upstream('url = "sdns://AwAAAAAAAAAAAAAjZmFtaWx5LWZpbHRlci1kbnMuY2xlYW5icm93c2luZy5vcmc"\naddresses = ["192.0.2.1"]')
    (warning,) = loaded(text).warnings
    assert "no DNSSEC records" in warning.message
    assert not loaded(text + '[dnssec]\nmode = "off"\n').warnings


def test_designated_resolvers(loaded: Loaded, problems: Problems) -> None:
    (found,) = loaded(upstream('url = "ddr://[2001:db8::53]:5353"')).upstreams
    assert (found.scheme, found.host, found.port, found.addresses) == ("ddr", "2001:db8::53", 5353, ("2001:db8::53",))
    assert found.tls_name == ""
    (problem,) = problems(upstream('url = "ddr://dns.example"'))
    assert "at an IP address" in problem.message
    for line in ('tls_name = "dns.example"', 'addresses = ["192.0.2.1"]', 'method = "GET"', "zero_rtt = true"):
        (problem,) = problems(upstream(f'url = "ddr://192.0.2.53"\n{line}'))
        assert "means nothing for ddr" in problem.message
