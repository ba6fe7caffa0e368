"""Our own certificate, as its files change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from dohproxy.identity.own import BadCertificate, FileCertificate, KeyPair, OwnCertificate, SvidCertificate
from dohproxy.lab.certificates import Authority, Credentials


@pytest.fixture(scope="module")
def pairs() -> list[Credentials]:
    authority = Authority()
    return [authority.client(f"client {number}", "spiffe://prod.example/web") for number in range(2)]


def put(path: Path, octets: bytes) -> None:
    """As a careful tool replaces a file: at once."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(octets)
    fresh.replace(path)


class Files:
    def __init__(self, directory: Path, pair: Credentials) -> None:
        self.certificate, self.key = pair.write(directory, "proxy")
        self.complaints: list[str] = []
        self.own: OwnCertificate = FileCertificate(self.certificate, str(self.key), self.complaints.append)


@pytest.fixture
def files(tmp_path: Path, pairs: list[Credentials]) -> Files:
    return Files(tmp_path, pairs[0])


def test_the_same_object_while_nothing_changes(files: Files, pairs: list[Credentials]) -> None:
    assert files.own.current() == KeyPair(pairs[0].certificate, pairs[0].key)
    assert files.own.current() is files.own.current()


def test_replaced_files_are_read_again(files: Files, pairs: list[Credentials]) -> None:
    before = files.own.current()
    put(files.certificate, pairs[1].certificate)
    put(files.key, pairs[1].key)
    assert files.own.current() == KeyPair(pairs[1].certificate, pairs[1].key)
    assert files.own.current() is not before
    assert files.complaints == []


def test_between_the_two_files_the_old_pair_stays(files: Files, pairs: list[Credentials]) -> None:
    before = files.own.current()
    put(files.certificate, pairs[1].certificate)
    assert files.own.current() is files.own.current() is before
    assert files.complaints == [
        f"{files.certificate} and {files.key}: the key is not the certificate's: what was there before stays in use"
    ]
    put(files.key, pairs[1].key)
    assert files.own.current() == KeyPair(pairs[1].certificate, pairs[1].key)
    assert len(files.complaints) == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_half_written_file_keeps_the_old_pair(files: Files, pairs: list[Credentials], share: float) -> None:
    before = files.own.current()
    files.key.write_bytes(pairs[0].key[: int(len(pairs[0].key) * share)])
    assert files.own.current() is before
    assert len(files.complaints) == 1


def test_files_that_are_gone_keep_the_old_pair(files: Files) -> None:
    before = files.own.current()
    files.key.unlink()
    assert files.own.current() is before
    assert files.complaints == [f"{files.key} cannot be read: No such file or directory: what was there before stays in use"]


def test_at_first_a_bad_pair_is_an_error(tmp_path: Path, pairs: list[Credentials]) -> None:
    certificate, _ = pairs[0].write(tmp_path, "one")
    _, key = pairs[1].write(tmp_path, "two")
    with pytest.raises(BadCertificate, match="the key is not the certificate's"):
        FileCertificate(certificate, str(key))
    with pytest.raises(BadCertificate, match="cannot be read: No such file"):
        FileCertificate(tmp_path / "none.pem", str(key))
    with pytest.raises(BadCertificate, match="no chain of certificates in PEM"):
        FileCertificate(key, str(key))
    with pytest.raises(BadCertificate, match="no private key in PEM"):
        FileCertificate(certificate, str(certificate))


def test_an_encrypted_key_is_refused_in_words(tmp_path: Path, pairs: list[Credentials]) -> None:
    certificate, key = pairs[0].write(tmp_path, "one")
    secret = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(BadCertificate, match="the key is encrypted"):
        FileCertificate(certificate, str(key))


def test_a_key_in_an_hsm_takes_what_reaches_it(
    tmp_path: Path, pairs: list[Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _ = pairs[0].write(tmp_path, "one")
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    monkeypatch.delitem(sys.modules, "dohproxy.identity.hsm", raising=False)
    with pytest.raises(BadCertificate, match=r"pip install 'dohproxy\[hsm\]'"):
        FileCertificate(certificate, "pkcs11:object=web")


def test_an_svid_is_there_once_it_is_given_and_gone_once_withdrawn() -> None:
    svid = SvidCertificate()
    own: OwnCertificate = svid
    with pytest.raises(BadCertificate, match="has not given us"):
        own.current()
    pair = KeyPair(b"chain", b"key")
    svid.replace(pair)
    svid.replace(KeyPair(b"chain", b"key"))
    assert own.current() is pair
    svid.withdraw("the X.509-SVID has expired")
    with pytest.raises(BadCertificate, match="has expired"):
        own.current()
