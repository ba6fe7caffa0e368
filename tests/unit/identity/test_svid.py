"""X.509-SVIDs by the rules of SPIFFE, before they are shown to anybody."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from spiffe_agents import issue, svids
from workloads import WALL, Issuer, usage

from dohproxy.identity.own import BadCertificate
from dohproxy.identity.svid import identity_from
from dohproxy.identity.workload_messages import Svid, parse_svids_untrusted
from dohproxy.lab.certificates import Authority

WEB = "spiffe://prod.example/ns/pay/sa/web"
(GOOD,) = parse_svids_untrusted(svids(issue(Authority(), WEB))).svids


def test_what_is_shown() -> None:
    identity = identity_from(GOOD, WALL)
    assert identity.spiffe_id == WEB
    key = load_pem_private_key(identity.pair.key, None)  # type: ignore[arg-type]
    assert key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()) == GOOD.key
    assert identity.end > WALL


def test_nothing_past_its_end() -> None:
    end = identity_from(GOOD, WALL).end
    with pytest.raises(BadCertificate, match="has expired"):
        identity_from(GOOD, end)


def test_somebody_elses_key() -> None:
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(BadCertificate, match="is not its certificate's"):
        identity_from(replace(GOOD, key=other), WALL)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.integers(0, len(GOOD.chain[0]) - 1), st.integers(0, 255), st.integers(0, len(GOOD.key) - 1))
def test_damaged_octets(at: int, octet: int, key_at: int) -> None:
    der, key = bytearray(GOOD.chain[0]), bytearray(GOOD.key)
    der[at] = octet
    key[key_at] ^= octet
    for damaged in (replace(GOOD, chain=(bytes(der),)), replace(GOOD, key=bytes(key))):
        with suppress(BadCertificate):
            identity_from(damaged, WALL)


ISSUER = Issuer("prod.example")


def given_as(**how: Any) -> Svid:
    issued = ISSUER.issue(*how.pop("uris", (WEB,)), **how)
    key = issued.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return Svid(WEB, (issued.der,), key, (ISSUER.der,))


def test_one_as_spire_makes_it() -> None:
    assert identity_from(given_as(), WALL).end == WALL + 3600


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"uris": (WEB, "spiffe://prod.example/other")}, "exactly one URI"),
        ({"uris": ()}, "names nobody"),
        ({"uris": ("spiffe://prod.example/other",)}, "is said to be of .*/web is of spiffe://prod.example/other"),
        ({"uris": ("https://prod.example/web",), "subject": "web"}, "is of subject:CN=web"),
        ({"ca": True}, "an authority's certificate"),
        ({"use": None}, "no key usage"),
        ({"use": usage("key_encipherment")}, "not for signatures"),
        ({"use": usage("digital_signature", "key_cert_sign")}, "for signing certificates"),
    ],
)
def test_what_is_no_svid(how: dict[str, Any], why: str) -> None:
    with pytest.raises(BadCertificate, match=why):
        identity_from(given_as(**how), WALL)


def test_intermediate_authorities_are_shown_too_and_end_it_if_they_end_first() -> None:
    intermediate = Issuer("prod.example", ISSUER)
    issued = intermediate.issue(WEB, end=48 * 3600)
    key = issued.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    identity = identity_from(Svid(WEB, (issued.der, intermediate.der), key, (ISSUER.der,)), WALL)
    assert identity.pair.chain == issued.pem + intermediate.pem
    assert identity.end == WALL + 24 * 3600
