"""The root's trust anchors, against what the distribution ships, and the maker of certificates."""

from __future__ import annotations

import os
import re
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import dns.dnssec
import dns.name
import dns.rdata
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from dohproxy.lab.certificates import Authority, Credentials, Validity

CERTS = Path(__file__).parents[2] / "certs"
ANCHORS = CERTS / "root-anchors.xml"
DEBIAN_DS = Path("/usr/share/dns/root.ds")
BIND_KEYS = Path("/etc/bind/bind.keys")


def current() -> list[ElementTree.Element]:
    root = ElementTree.parse(ANCHORS).getroot()
    assert root.tag == "TrustAnchor" and root.findtext("Zone") == "."
    return [key for key in root.findall("KeyDigest") if "validUntil" not in key.attrib]


def digests() -> dict[int, str]:
    for key in current():
        assert (key.findtext("Algorithm"), key.findtext("DigestType")) == ("8", "2")
    return {int(key.findtext("KeyTag", "")): key.findtext("Digest", "") for key in current()}


def source(path: Path) -> str:
    if not path.exists():
        if "CI" in os.environ:
            pytest.fail(f"{path} is not installed: the anchors have nothing to be compared with")
        pytest.skip(f"{path} is not installed")
    return path.read_text()


def test_the_current_anchors_are_the_two_of_iana() -> None:
    assert sorted(digests()) == [20326, 38696]


def test_each_digest_is_that_of_its_public_key() -> None:
    for key in current():
        text = f"{key.findtext('Flags')} 3 {key.findtext('Algorithm')} {key.findtext('PublicKey')}"
        dnskey = dns.rdata.from_text("IN", "DNSKEY", text)
        ds = dns.dnssec.make_ds(dns.name.root, dnskey, "SHA256")
        assert (str(ds.key_tag), ds.digest.hex().upper()) == (key.findtext("KeyTag"), key.findtext("Digest"))


def test_they_are_those_of_dns_root_data() -> None:
    found = {int(tag): digest.upper() for tag, digest in re.findall(r"IN DS (\d+) 8 2 ([0-9A-Fa-f]{64})", source(DEBIAN_DS))}
    assert digests() == found


def test_they_are_those_of_bind() -> None:
    text = source(BIND_KEYS)
    keys = ["".join(key.split()) for key in re.findall(r"^\s*\. initial-key 257 3 8 \"([^\"]+)\"", text, re.MULTILINE)]
    made = [dns.dnssec.make_ds(dns.name.root, dns.rdata.from_text("IN", "DNSKEY", f"257 3 8 {key}"), "SHA256") for key in keys]
    found = {ds.key_tag: ds.digest.hex().upper() for ds in made}
    for tag, digest in re.findall(r"^\s*\. initial-ds (\d+) 8 2 \"([^\"]+)\"", text, re.MULTILINE):
        found[int(tag)] = "".join(digest.split()).upper()
    assert digests() == found


AUTHORITY = Authority("test authority")


def leaf(credentials: Credentials) -> x509.Certificate:
    return x509.load_pem_x509_certificates(credentials.certificate)[0]


def policy(authority: Authority = AUTHORITY) -> PolicyBuilder:
    return PolicyBuilder().store(Store([authority.certificate]))


def test_a_server_verifies_for_each_of_its_names() -> None:
    certificate = leaf(AUTHORITY.server("dns.example", "192.0.2.1", "2001:db8::1"))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["dns.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
    policy().build_server_verifier(x509.DNSName("dns.example")).verify(certificate, [])
    with pytest.raises(VerificationError):
        policy().build_server_verifier(x509.DNSName("other.example")).verify(certificate, [])


def test_a_client_has_its_spiffe_id() -> None:
    certificate = leaf(AUTHORITY.client("pay", "spiffe://prod.example/ns/pay/sa/web"))
    verified = policy().build_client_verifier().verify(certificate, [])
    assert verified.subjects == [x509.UniformResourceIdentifier("spiffe://prod.example/ns/pay/sa/web")]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_another_authority_vouches_for_nobody() -> None:
    certificate = leaf(AUTHORITY.server("dns.example"))
    with pytest.raises(VerificationError):
        policy(Authority("another")).build_server_verifier(x509.DNSName("dns.example")).verify(certificate, [])


def test_certificates_may_have_expired() -> None:
    long_ago = Validity.around(datetime.now(UTC) - timedelta(days=30), days=10)
    certificate = leaf(AUTHORITY.server("dns.example", validity=long_ago))
    assert certificate.not_valid_after_utc < datetime.now(UTC)
    with pytest.raises(VerificationError):
        policy().build_server_verifier(x509.DNSName("dns.example")).verify(certificate, [])


def test_files_serve_openssl_and_keys_are_private(tmp_path: Path) -> None:
    ca, (certificate, key) = AUTHORITY.write(tmp_path), AUTHORITY.server("dns.example").write(tmp_path, "server")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    assert len(ssl.create_default_context(cafile=str(ca)).get_ca_certs()) == 1
    AUTHORITY.server("dns.example").write(tmp_path, "server")


def test_the_command_writes_what_is_asked_for(tmp_path: Path) -> None:
    asked = ["--server", "dns.example,127.0.0.1", "--client", "pay=spiffe://prod.example/ns/pay/sa/web"]
    command = [sys.executable, str(CERTS / "make.py"), str(tmp_path), *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CERTS.parent, env={"PYTHONPATH": "."})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.pem", "pay.key", "pay.pem", "server.key", "server.pem"]
    assert len(done.stdout.split()) == 5
