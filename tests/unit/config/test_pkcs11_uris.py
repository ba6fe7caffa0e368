"""`pkcs11:` URIs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dohproxy.config.pkcs11_uris import PROXY_MODULE, Pkcs11Uri, parse_pkcs11_uri


def test_all_that_may_be_said() -> None:
    text = "pkcs11:token=The%20Token;object=web;id=%01%ff;serial=42;type=private?module-path=/lib/x.so&pin-source=file:/pin"
    assert parse_pkcs11_uri(text) == Pkcs11Uri("The Token", "web", b"\x01\xff", "42", "/lib/x.so", "/pin")


def test_little_is_enough() -> None:
    assert parse_pkcs11_uri("pkcs11:object=web") == Pkcs11Uri(object="web", module_path=PROXY_MODULE)
    assert parse_pkcs11_uri("pkcs11:id=%01").id == b"\1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file:key.pem", "no pkcs11: URI"),
        ("pkcs11:token=x", "object or id is missing"),
        ("pkcs11:object=x;type=cert", "something else than a private key"),
        ("pkcs11:object=x;colour=red", '"colour=red" means nothing here'),
        ("pkcs11:object=x;object=y", "object is there twice"),
        ("pkcs11:object=x?pin-value", '"pin-value" means nothing'),
    ],
)
def test_what_is_wrong_is_told(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_pkcs11_uri(text)


def test_the_pin(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("1234\n")
    assert parse_pkcs11_uri(f"pkcs11:object=x?pin-source={tmp_path}/pin").pin() == "1234"
    assert parse_pkcs11_uri("pkcs11:object=x?pin-value=12%2034").pin() == "12 34"
    assert parse_pkcs11_uri("pkcs11:object=x").pin() is None
