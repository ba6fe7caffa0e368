import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from workloads import WALL, Issuer, usage

from dohproxy.config.settings import TrustDomain
from dohproxy.identity.authorities import BadAuthorities
from dohproxy.identity.peers import (
    BAD_CERTIFICATE,
    CERTIFICATE_EXPIRED,
    CERTIFICATE_REQUIRED,
    MAX_CHAINS,
    MAX_DEPTH,
    MAX_KNOWN,
    UNKNOWN_CA,
    UNSUPPORTED_CERTIFICATE,
    Authorities,
    BadIdentity,
    Bundle,
    Unverified,
    identity_of,
)

WEB = "spiffe://prod.example/ns/pay/sa/web"
PROD, OTHER, PLAIN = Issuer("prod.example"), Issuer("other.example"), Issuer("clients of old", plain=True)


def refused(bundle: Bundle, chain: list[bytes], wall: int = WALL) -> Unverified:
    with pytest.raises(Unverified) as caught:
        bundle.identify(chain, wall)
    return caught.value


@pytest.fixture
def bundle() -> Bundle:
    return Bundle((PLAIN.certificate,), {"prod.example": (PROD.certificate,), "other.example": (OTHER.certificate,)})


class TestIdentityOf:
    def test_a_spiffe_id_comes_before_all_other_names(self) -> None:
        assert identity_of(PROD.issue(WEB, dns=["web.example"], subject="web").der) == WEB

    def test_else_the_first_dns_name_in_lower_case(self) -> None:
        assert identity_of(PLAIN.issue(dns=["Web.Example", "b.example"], subject="web").der) == "dns:web.example"

    def test_else_the_subject(self) -> None:
        assert identity_of(PLAIN.issue(subject="web, of old").der) == "subject:CN=web\\, of old"

    def test_a_uri_of_another_scheme_names_nobody_here(self) -> None:
        assert identity_of(PLAIN.issue("https://web.example/", "urn:x", subject="web").der) == "subject:CN=web"

    @pytest.mark.parametrize("second", ["spiffe://prod.example/other", "https://web.example/"])
    def test_an_svid_has_one_uri_alone(self, second: str) -> None:
        with pytest.raises(BadIdentity, match="exactly one URI"):
            identity_of(PROD.issue(WEB, second).der)

    @pytest.mark.parametrize(
        "text",
        [
            "spiffe://prod.example",
            "spiffe://prod.example/",
            "spiffe://prod.example/ns/",
            "spiffe://prod.example//ns",
            "spiffe://prod.example/ns/../pay",
            "spiffe://prod.example/./pay",
            "spiffe://prod.example:8443/ns",
            "spiffe://user@prod.example/ns",
            "spiffe://Prod.example/ns",
            "spiffe://prod%2eexample/ns",
            "spiffe://prod.example/ns?x=1",
            "spiffe://prod.example/ns#x",
            "spiffe://prod.example/n%73",
            "spiffe:///ns",
            "spiffe:prod.example/ns",
            "SPIFFE://prod.example/ns",
            f"spiffe://{'a' * 256}/ns",
            f"spiffe://prod.example/{'a' * 2048}",
        ],
    )
    def test_what_is_no_spiffe_id_names_nobody_and_falls_back_to_nothing(self, text: str) -> None:
        with pytest.raises(BadIdentity, match="no SPIFFE ID"):
            identity_of(PROD.issue(text, dns=["web.example"], subject="web").der)

    def test_an_authority_is_no_client(self) -> None:
        with pytest.raises(BadIdentity, match="authority"):
            identity_of(PROD.issue(WEB, ca=True).der)

    @pytest.mark.parametrize("more", ["key_cert_sign", "crl_sign"])
    def test_a_key_that_signs_certificates_is_no_clients(self, more: str) -> None:
        with pytest.raises(BadIdentity, match="for signing certificates"):
            identity_of(PROD.issue(WEB, use=usage("digital_signature", more)).der)

    def test_the_key_is_for_signatures(self) -> None:
        with pytest.raises(BadIdentity, match="not for signatures") as caught:
            identity_of(PLAIN.issue(subject="web", use=usage("key_agreement")).der)
        assert caught.value.alert == UNSUPPORTED_CERTIFICATE

    def test_an_svid_says_what_its_key_is_for_others_need_not(self) -> None:
        with pytest.raises(BadIdentity, match="no key usage"):
            identity_of(PROD.issue(WEB, use=None).der)
        assert identity_of(PLAIN.issue(subject="web", use=None).der) == "subject:CN=web"

    def test_a_servers_certificate_is_no_clients(self) -> None:
        with pytest.raises(BadIdentity, match="clientAuth") as caught:
            identity_of(PROD.issue(WEB, purposes=[ExtendedKeyUsageOID.SERVER_AUTH]).der)
        assert caught.value.alert == UNSUPPORTED_CERTIFICATE

    def test_extended_key_usage_and_basic_constraints_may_be_missing(self) -> None:
        assert identity_of(PROD.issue(WEB, purposes=None, ca=None).der) == WEB

    def test_nobody_is_nobody(self) -> None:
        with pytest.raises(BadIdentity, match="names nobody"):
            identity_of(PLAIN.issue().der)

    @pytest.mark.parametrize("name", ["a b.example", "a\nb", "", "exa\0mple", "spiffe://x/y"])
    def test_a_dns_name_that_is_none(self, name: str) -> None:
        with pytest.raises(BadIdentity, match="DNS name"):
            identity_of(PLAIN.issue(dns=[name], subject="web").der)

    @pytest.mark.parametrize("octets", [b"", b"\x30\x00", PROD.der[:-1], b"-----BEGIN CERTIFICATE-----"])
    def test_what_is_no_certificate(self, octets: bytes) -> None:
        with pytest.raises(BadIdentity, match="cannot be read"):
            identity_of(octets)

    @pytest.mark.filterwarnings("ignore:Parsed a serial number")
    def test_any_octet_may_be_another(self) -> None:
        octets = PROD.issue(WEB, dns=["web.example"]).der
        for at in range(0, len(octets), 3):
            for other in (0, 0xFF, octets[at] ^ 1):
                try:
                    identity_of(octets[:at] + bytes([other]) + octets[at + 1 :])
                except BadIdentity:
                    continue


class TestBundle:
    def test_an_svid_by_the_authority_of_its_trust_domain(self, bundle: Bundle) -> None:
        assert bundle.identify([PROD.issue(WEB).der], WALL) == WEB

    @pytest.mark.parametrize("identifiers", [True, False])
    @pytest.mark.parametrize("critical_san", [True, False])
    def test_as_the_makers_of_svids_have_them(self, bundle: Bundle, identifiers: bool, critical_san: bool) -> None:
        svid = PROD.issue(WEB, identifiers=identifiers, critical_san=critical_san)
        assert bundle.identify([svid.der], WALL) == WEB

    def test_through_an_authority_between(self, bundle: Bundle) -> None:
        between = Issuer("prod.example between", PROD)
        svid = between.issue(WEB)
        assert refused(bundle, [svid.der]).alert == UNKNOWN_CA
        assert bundle.identify([svid.der, between.der], WALL) == WEB

    def test_the_authority_of_another_trust_domain_cannot_vouch(self, bundle: Bundle) -> None:
        assert refused(bundle, [OTHER.issue(WEB).der]).alert == UNKNOWN_CA

    def test_nor_can_that_of_other_clients(self, bundle: Bundle) -> None:
        assert refused(bundle, [PLAIN.issue(WEB).der, PLAIN.der]).alert == UNKNOWN_CA

    def test_the_authority_of_a_trust_domain_vouches_for_no_other_names(self, bundle: Bundle) -> None:
        assert refused(bundle, [PROD.issue(dns=["web.example"]).der]).alert == UNKNOWN_CA

    def test_a_trust_domain_that_is_not_listed_counts_by_the_general_authorities(self, bundle: Bundle) -> None:
        assert bundle.identify([PLAIN.issue("spiffe://third.example/x").der], WALL) == "spiffe://third.example/x"

    def test_a_trust_domain_without_authorities_is_nobodys(self) -> None:
        bundle = Bundle((PLAIN.certificate,), {"prod.example": ()})
        assert refused(bundle, [PLAIN.issue(WEB).der]).alert == UNKNOWN_CA

    def test_without_general_authorities_nobody_else_counts(self) -> None:
        bundle = Bundle((), {"prod.example": (PROD.certificate,)})
        assert refused(bundle, [PLAIN.issue(subject="web").der]).alert == UNKNOWN_CA

    @pytest.mark.parametrize("wall", [WALL - 61, WALL + 3601])
    def test_dates_count_each_time(self, bundle: Bundle, wall: int) -> None:
        chain = [PROD.issue(WEB).der]
        assert refused(bundle, chain, wall).alert == CERTIFICATE_EXPIRED
        bundle.identify(chain, WALL)
        assert refused(bundle, chain, wall).alert == CERTIFICATE_EXPIRED

    def test_the_dates_of_authorities_between_count_each_time_too(self) -> None:
        between = Issuer("between", PROD)
        bundle = Bundle((), {"prod.example": (PROD.certificate,)})
        chain = [between.issue(WEB, end=90 * 3600).der, between.der]
        assert bundle.identify(chain, WALL) == WEB
        assert refused(bundle, chain, WALL + 25 * 3600).alert == CERTIFICATE_EXPIRED

    @pytest.mark.filterwarnings("ignore:Parsed a serial number")
    def test_no_octet_makes_it_another_client(self, bundle: Bundle) -> None:
        """Signatures alone may be written in more than one way."""
        between, accepted = Issuer("between", PROD), 0
        chain = [between.issue(WEB).der, between.der]
        for place, der in enumerate(chain):
            for at in range(0, len(der), 2):
                for octet in {0, 0xFF, der[at] ^ 1} - {der[at]}:
                    shown = list(chain)
                    shown[place] = der[:at] + bytes([octet]) + der[at + 1 :]
                    with suppress(Unverified):
                        assert bundle.identify(shown, WALL) == WEB
                        accepted += 1
                        bundle._known.clear()
        assert accepted < 4

    def test_a_leaf_signs_no_other(self, bundle: Bundle) -> None:
        leaf = PROD.issue(WEB)
        forger = Issuer("forger", PROD)
        forger.key, forger.name = leaf.key, leaf.certificate.subject
        assert refused(bundle, [forger.issue("spiffe://prod.example/boss").der, leaf.der]).alert == UNKNOWN_CA

    @pytest.mark.parametrize(
        ("leaf", "alert"),
        [
            (PROD.issue(WEB, ca=True), BAD_CERTIFICATE),
            (PROD.issue(WEB, "spiffe://prod.example/x"), BAD_CERTIFICATE),
            (PROD.issue(WEB, purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), UNSUPPORTED_CERTIFICATE),
        ],
    )
    def test_what_is_no_clients_is_refused_as_that(self, bundle: Bundle, leaf, alert: int) -> None:
        assert refused(bundle, [leaf.der]).alert == alert

    def test_a_chain_has_an_end(self, bundle: Bundle) -> None:
        issuers = [PROD]
        for number in range(MAX_DEPTH + 1):
            issuers.append(Issuer(f"between {number}", issuers[-1]))
        for depth, alert in ((MAX_DEPTH, 0), (MAX_DEPTH + 1, UNKNOWN_CA)):
            chain = [issuers[depth].issue(WEB).der, *(one.der for one in issuers[depth:0:-1])]
            assert (refused(bundle, chain).alert if alert else bundle.identify(chain, WALL)) == (alert or WEB)
        assert refused(bundle, [*chain, PROD.der]).alert == BAD_CERTIFICATE

    def test_authorities_that_have_all_signed_each_other_lead_nowhere_soon(self, bundle: Bundle) -> None:
        first = Issuer("forger")
        others = [Issuer("forger", first, key=first.key) for _ in range(MAX_DEPTH + 1)]
        began = time.process_time()
        assert refused(bundle, [first.issue(WEB).der, *(one.der for one in others)]).alert == UNKNOWN_CA
        assert time.process_time() - began < 1.0

    def test_no_certificate_and_what_is_none(self, bundle: Bundle) -> None:
        assert refused(bundle, []).alert == CERTIFICATE_REQUIRED
        assert refused(bundle, [b"\x30\x03\x02\x01\x01"]).alert == BAD_CERTIFICATE

    def test_a_resumed_session_shows_the_leaf_alone(self) -> None:
        between = Issuer("between", PROD)
        svid = between.issue(WEB)
        bundle = Bundle((), {"prod.example": (PROD.certificate,)})
        bundle.identify([svid.der, between.der], WALL)
        assert bundle.identify_verified([svid.der], WALL) == WEB

    def test_what_is_remembered_is_bounded(self, bundle: Bundle) -> None:
        bundle._known = {bytes([i % 256, i // 256]): None for i in range(MAX_KNOWN)}  # type: ignore[misc]
        bundle.identify([PROD.issue(WEB).der], WALL)
        assert len(bundle._known) == MAX_KNOWN

    def test_pem_has_every_authority_once(self) -> None:
        bundle = Bundle((PROD.certificate,), {"prod.example": (PROD.certificate, OTHER.certificate)})
        assert set(x509.load_pem_x509_certificates(bundle.pem)) == {PROD.certificate, OTHER.certificate}
        assert bundle.pem.count(b"BEGIN") == 2


class TestAuthorities:
    def test_the_same_object_while_nothing_changed(self, tmp_path: Path) -> None:
        file = written(tmp_path / "ca.pem", PLAIN)
        authorities = Authorities(file, ())
        assert authorities.current() is authorities.current()

    def test_a_changed_file_counts_at_once(self, tmp_path: Path) -> None:
        file = written(tmp_path / "prod.pem", OTHER)
        authorities = Authorities(None, [TrustDomain("prod.example", file)])
        assert refused(authorities.current(), [PROD.issue(WEB).der]).alert == UNKNOWN_CA
        written(file, PROD)
        assert authorities.current().identify([PROD.issue(WEB).der], WALL) == WEB

    @pytest.mark.parametrize("broken", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA", None])
    def test_a_broken_file_leaves_those_from_before_and_says_so_once(self, tmp_path: Path, broken: bytes | None) -> None:
        file, told = written(tmp_path / "ca.pem", PLAIN), list[str]()
        authorities = Authorities(file, (), complain=told.append)
        before = authorities.current()
        file.unlink() if broken is None else file.write_bytes(broken)
        assert authorities.current() is before
        assert authorities.current() is before
        assert len(told) == 1
        assert str(file) in told[0]

    def test_there_are_some_to_begin_with(self, tmp_path: Path) -> None:
        with pytest.raises(BadAuthorities, match="cannot be read"):
            Authorities(tmp_path / "none.pem", ())

    def test_bundles_of_the_workload_api_and_their_rotation(self) -> None:
        given = {"prod.example": [OTHER.der]}
        authorities = Authorities(None, (), lambda: given)
        before = authorities.current()
        assert authorities.current() is before
        assert refused(before, [PROD.issue(WEB).der]).alert == UNKNOWN_CA
        given = {"prod.example": [OTHER.der, PROD.der]}
        assert authorities.current().identify([PROD.issue(WEB).der], WALL) == WEB
        given = {}
        assert refused(authorities.current(), [PROD.issue(WEB).der]).alert == UNKNOWN_CA

    def test_who_shows_the_leaf_alone_stays_when_nothing_of_its_chain_was_withdrawn(self) -> None:
        between = Issuer("between", PROD)
        svid, other = between.issue(WEB), between.issue(WEB)
        given = {"prod.example": [PROD.der]}
        authorities = Authorities(None, (), lambda: given)
        assert authorities.current().identify([svid.der, between.der], WALL) == WEB
        given = {"prod.example": [PROD.der, OTHER.der]}
        assert authorities.current().identify([svid.der], WALL) == WEB
        assert refused(authorities.current(), [other.der]).alert == UNKNOWN_CA
        given = {"prod.example": [PROD.der]}
        assert authorities.current().identify([svid.der], WALL) == WEB
        given = {"prod.example": [OTHER.der]}
        assert refused(authorities.current(), [svid.der]).alert == UNKNOWN_CA

    def test_an_authority_that_is_one_no_more_may_still_stand_between(self) -> None:
        between = Issuer("between", PROD)
        svid = between.issue(WEB)
        given = {"prod.example": [between.der]}
        authorities = Authorities(None, (), lambda: given)
        assert authorities.current().identify([svid.der, between.der], WALL) == WEB
        given = {"prod.example": [PROD.der]}
        assert authorities.current().identify([svid.der], WALL) == WEB

    def test_what_is_remembered_of_chains_is_bounded(self) -> None:
        between = Issuer("between", PROD)
        authorities = Authorities(None, (), lambda: {"prod.example": [PROD.der]})
        authorities._chains.update((bytes([i % 256, i // 256]), ()) for i in range(MAX_CHAINS))
        authorities.current().identify([between.issue(WEB).der, between.der], WALL)
        assert len(authorities._chains) == MAX_CHAINS

    def test_a_bundle_that_cannot_be_read_leaves_the_one_from_before(self) -> None:
        given, told = {"prod.example": [PROD.der]}, list[str]()
        authorities = Authorities(None, (), lambda: given, told.append)
        authorities.current()
        given = {"prod.example": [b"junk"]}
        assert authorities.current().identify([PROD.issue(WEB).der], WALL) == WEB
        authorities.current()
        assert len(told) == 1

    def test_a_file_comes_before_the_workload_api(self, tmp_path: Path) -> None:
        file = written(tmp_path / "prod.pem", PROD)
        authorities = Authorities(None, [TrustDomain("prod.example", file)], lambda: {"prod.example": [OTHER.der]})
        assert refused(authorities.current(), [OTHER.issue(WEB).der]).alert == UNKNOWN_CA


def written(file: Path, issuer: Issuer) -> Path:
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_bytes(issuer.pem)
    if before:
        os.utime(file, ns=(before + 1, before + 1))
    return file


def test_certificates_made_by_openssl(tmp_path: Path) -> None:
    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=tmp_path, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-subj", "/CN=old CA", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-new", *curve, "-subj", "/O=Example/CN=web", "-keyout", "web.key", "-out", "web.csr")
    openssl("x509", "-req", "-in", "web.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "bare.pem")
    (tmp_path / "ext").write_text("subjectAltName=URI:spiffe://prod.example/web\nkeyUsage=critical,digitalSignature\n")
    openssl("x509", "-req", "-in", "web.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-extfile", "ext", "-out", "svid.pem")
    bundle = Authorities(tmp_path / "ca.pem", ()).current()
    found = {}
    for stem in ("bare", "svid"):
        certificate = x509.load_pem_x509_certificate((tmp_path / f"{stem}.pem").read_bytes())
        wall = int(certificate.not_valid_before_utc.timestamp()) + 60
        try:
            found[stem] = bundle.identify([certificate.public_bytes(Encoding.DER)], wall)
        except Unverified as error:
            found[stem] = str(error)
    assert found["svid"] == "spiffe://prod.example/web"
    assert "first version" in found["bare"]
