from __future__ import annotations

import pytest
from policies import Maker, ask, group

from dohproxy.model import Assurance, Client, Transport
from dohproxy.policy.clients import IdentityIndex
from dohproxy.policy.explain import explain

PROD = "spiffe://prod.example"
PATTERNS = [
    f"{PROD}/ns/pay/*",
    f"{PROD}/ns/pay/sa/web",
    f"{PROD}/ns/pay/sa/*",
    f"{PROD}/*",
    "dns:web.example",
    "dns:*.example",
    "dns:*.pay.example",
    "subject:CN=web",
]


@pytest.mark.parametrize(
    ("identity", "pattern"),
    [
        (f"{PROD}/ns/pay/sa/web", f"{PROD}/ns/pay/sa/web"),
        (f"{PROD}/ns/pay/sa/db", f"{PROD}/ns/pay/sa/*"),
        (f"{PROD}/ns/pay/sa/web/2", f"{PROD}/ns/pay/sa/*"),
        (f"{PROD}/ns/pay/x", f"{PROD}/ns/pay/*"),
        (f"{PROD}/ns/pay", f"{PROD}/*"),
        (f"{PROD}/ns/pays", f"{PROD}/*"),
        ("spiffe://prod.example.org/ns/pay/x", None),
        ("dns:web.example", "dns:web.example"),
        ("dns:db.example", "dns:*.example"),
        ("dns:a.b.pay.example", "dns:*.pay.example"),
        ("dns:pay.example", "dns:*.example"),
        ("dns:example", None),
        ("dns:.example", None),
        ("dns:badexample", None),
        ("subject:CN=web", "subject:CN=web"),
        ("subject:CN=x.example", None),
        ("subject:CN=dns:web.example", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_most_specific_pattern_has_an_identity(identity: str, pattern: str | None, order: int) -> None:
    index = IdentityIndex((text, at) for at, text in enumerate(PATTERNS[::order]))
    found = index.find(identity)
    assert (found and found[0]) == pattern
    assert found is None or PATTERNS[::order][found[1]] == pattern


def test_what_is_attested_comes_before_the_address(make: Maker) -> None:
    engine = make(group("pay", spiffe=(f"{PROD}/ns/pay/*",)), group("near", clients=["10.1.0.0/16"]))
    web = f"{PROD}/ns/pay/web"
    for _ in range(2):
        assert engine.group_of("10.1.2.3", web).name == "pay"
        assert engine.group_of("10.1.2.3").name == "near"
        assert engine.group_of("10.1.2.3", f"{PROD}/ns/shop/web").name == "near"
        assert engine.group_of("192.0.2.1", f"{PROD}/ns/shop/web").name == "default"
    assert engine.group(Client("10.1.2.3", Transport.DOQ, identity=web)).name == "pay"
    assert engine.place_of("10.1.2.3", web)[1:] == (f"{PROD}/ns/pay/*", "")
    assert engine.place_of("10.1.2.3", "dns:x.example")[1:] == ("", "10.1.0.0/16")


def test_the_group_the_pattern_and_how_sure_that_is_are_told(make: Maker) -> None:
    engine = make(group("pay", spiffe=(f"{PROD}/ns/pay/*",), identities=("dns:*.pay.example",)))
    found = explain(engine, ask("a.example"), "", f"{PROD}/ns/pay/web")
    assert (found.group, found.pattern, found.network, found.assurance) == ("pay", f"{PROD}/ns/pay/*", "", Assurance.ATTESTED)
    assert f"identity  {PROD}/ns/pay/web" in found.lines()
    assert f"group     pay ({PROD}/ns/pay/* is in its spiffe, attested)" in found.lines()
    assert not any(line.startswith("client") for line in found.lines())
    told = explain(engine, ask("a.example"), "192.0.2.1", "dns:web.pay.example").lines()
    assert told[1:4] == [
        "client    192.0.2.1",
        "identity  dns:web.pay.example",
        "group     pay (dns:*.pay.example is in its identities, attested)",
    ]


@pytest.mark.parametrize(
    ("address", "identity", "there"),
    [
        ("", "dns:x", "default (no group has this identity, attested)"),
        ("192.0.2.1", "dns:x", "default (no group has this identity or address, attested)"),
        ("10.1.2.3", "dns:x", "near (10.1.0.0/16 is in its clients, attested)"),
        ("10.1.2.3", "", "near (10.1.0.0/16 is in its clients, inferred)"),
        ("192.0.2.1", "", "default (no group has this address, inferred)"),
    ],
)
def test_how_sure_we_are_who_it_is_does_not_depend_on_what_put_it_there(
    make: Maker, address: str, identity: str, there: str
) -> None:
    engine = make(group("pay", spiffe=(f"{PROD}/ns/pay/*",)), group("near", clients=["10.1.0.0/16"]))
    found = explain(engine, ask("a.example"), address, identity)
    assert f"group     {there}" in found.lines()
    assert found.assurance is Client(address, Transport.DOT, found.group, identity).assurance  # as logs tell it
