from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dohproxy.identity.designation import is_designated
from dohproxy.lab.certificates import Authority


def der(*names: str) -> bytes:
    leaf, *_ = x509.load_pem_x509_certificates(Authority().server(*names).certificate)
    return leaf.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("names", "by", "is_one"),
    [
        (("dns.test", "192.0.2.53"), "192.0.2.53", True),
        (("dns.test", "192.0.2.54", "2001:db8::1"), "2001:db8::1", True),
        (("dns.test", "192.0.2.54"), "192.0.2.53", False),
        (("dns.test",), "192.0.2.53", False),
    ],
)
def test_the_address_is_among_its_names(names: tuple[str, ...], by: str, is_one: bool) -> None:
    assert is_designated(der(*names), by) is is_one


def test_what_cannot_be_read_or_has_no_names_is_none() -> None:
    authority = Authority().certificate.public_bytes(Encoding.DER)
    assert not is_designated(authority, "192.0.2.53")
    assert not is_designated(b"\x30", "192.0.2.53")
