"""The root's trust anchors, against what the distribution ships, and the maker of certificates."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import dns.dnssec
import dns.name
import dns.rdata
import pytest

ANCHORS = Path(__file__).parents[2] / "certs" / "root-anchors.xml"
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
