"""Our certificate in a TLS context."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from dohproxy.identity.contexts import show
from dohproxy.identity.own import BadCertificate, KeyPair
from dohproxy.lab.certificates import Authority

AUTHORITY = Authority()
GOOD = AUTHORITY.server("dns.test")


def handshake(server: ssl.SSLContext) -> bytes | None:
    """The certificate that a client is shown."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=AUTHORITY.pem.decode())
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname="dns.test")
    theirs = server.wrap_bio(there, back, server_side=True)
    for side in (ours, theirs, ours, theirs):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ours.getpeercert(binary_form=True)


@pytest.mark.parametrize("has_memory_files", [True, False])
def test_a_pair_is_shown_and_leaves_nothing_behind(
    has_memory_files: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if not has_memory_files:
        monkeypatch.delattr(os, "memfd_create")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- no Path has it
    show(context, KeyPair(GOOD.certificate, GOOD.key))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert list(tmp_path.iterdir()) == []
    assert handshake(context) == ssl.PEM_cert_to_DER_cert(GOOD.certificate.decode().partition("-----END")[0] + PEM_END)


PEM_END = "-----END CERTIFICATE-----\n"


def test_what_cannot_be_shown() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(BadCertificate, match="cannot be used"):
        show(context, KeyPair(GOOD.certificate, AUTHORITY.server("other.test").key))
    with pytest.raises(BadCertificate, match=r"a key in an HSM cannot be used with TLS over TCP$"):
        show(context, KeyPair(GOOD.certificate, "pkcs11:object=x?pin-value=1234"))
