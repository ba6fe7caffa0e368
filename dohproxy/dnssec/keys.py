"""DNSKEY and DS records: read, matched, and kept as rings of keys that verify (RFC 4034 2, 5; RFC 4509; RFC 5011 2.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from cryptography.exceptions import InvalidSignature
from msgspec import Struct

from dohproxy.dnssec.algorithms import Verify, public_key
from dohproxy.errors import MalformedMessage
from dohproxy.model import Name

ZONE_KEY, REVOKED, SECURE_ENTRY_POINT = 0x0100, 0x0080, 0x0001
"""Flags of a DNSKEY (RFC 4034 2.1.1, RFC 5011 3)."""
PROTOCOL: Final = 3

SHA1, SHA256, SHA384 = 1, 2, 4
_DIGESTS: Final = {SHA1: hashlib.sha1, SHA256: hashlib.sha256, SHA384: hashlib.sha384}
DIGEST_NAMES: Final = {1: "SHA-1", 2: "SHA-256", 3: "GOST R 34.11-94", 4: "SHA-384", 5: "GOST R 34.11-2012", 6: "SM3"}


class Remembered:
    """Good signatures by their digests, some `most` of them at most: what was neither added nor found for long is forgotten.

    A signature lives for days, what it signs for minutes: most are seen again with the next answer of their zone, or when a
    TTL has run out. To look for one costs a hundredth of verifying it.
    """

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._young, self._old = set[bytes](), set[bytes]()

    def __contains__(self, digest: bytes) -> bool:
        if digest in self._young:
            return True
        if digest not in self._old:
            return False
        self.add(digest)
        return True

    def add(self, digest: bytes) -> None:
        """Remember it."""
        if len(self._young) >= self._half:
            self._old, self._young = self._young, set()
        self._young.add(digest)

    def __len__(self) -> int:
        return len(self._young | self._old)


_good = Remembered(16384)
"""Of all keys: some 2 MiB."""


class Key:
    """A DNSKEY record; its public key is made when it is first needed, and once."""

    __slots__ = ("_mark", "_refusal", "_verify", "algorithm", "flags", "protocol", "rdata", "tag")

    def __init__(self, rdata: bytes) -> None:
        self.rdata = rdata
        self.flags = int.from_bytes(rdata[:2], "big")
        self.protocol, self.algorithm = rdata[2], rdata[3]
        self.tag = key_tag(rdata)
        self._verify: Verify | None = None
        self._refusal = ""
        self._mark = hashlib.sha256(rdata).digest()

    @property
    def usable(self) -> bool:
        """Whether it may sign zone data: zone key, protocol 3, not revoked (RFC 4034 2.1, RFC 5011 2.1)."""
        return self.flags & (ZONE_KEY | REVOKED) == ZONE_KEY and self.protocol == PROTOCOL

    @property
    def revoked(self) -> bool:
        """Whether its owner says that it must not be trusted any more (RFC 5011 2.1)."""
        return bool(self.flags & REVOKED)

    @property
    def refusal(self) -> str:
        """Why the key cannot verify anything; "" while no reason is known."""
        return self._refusal

    def digest(self, owner: Name, digest_type: int) -> bytes:
        """What a DS of this type says of it, as a key of the zone `owner` (RFC 4034 5.1.4)."""
        return _DIGESTS[digest_type](owner + self.rdata).digest()

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether this is the key's signature of the data; False too for a key that is malformed or refused."""
        digest = hashlib.sha256(self._mark + len(signature).to_bytes(2) + signature + data).digest()
        if digest in _good:
            return True
        if self._verify is None:
            if self._refusal:
                return False
            try:
                self._verify = public_key(self.algorithm, self.rdata[4:])
            except ValueError as error:
                self._refusal = str(error)
                return False
        try:
            self._verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        _good.add(digest)
        return True


def read_key_untrusted(rdata: bytes) -> Key:
    """The key in a DNSKEY's RDATA; raises MalformedMessage if too short to be one (RFC 4034 2.1)."""
    if len(rdata) < 5:
        raise MalformedMessage("a DNSKEY record ends too soon")
    return Key(rdata)


def key_tag(rdata: bytes) -> int:
    """The key tag of a DNSKEY's RDATA (RFC 4034 B)."""
    if rdata[3] == 1 and len(rdata) >= 7:
        return int.from_bytes(rdata[-3:-1], "big")
    total = sum(rdata[1::2]) + (sum(rdata[0::2]) << 8)
    return (total + (total >> 16 & 0xFFFF)) & 0xFFFF


class KeyRing:
    """The keys of one zone by tag and algorithm: those that may sign its data."""

    __slots__ = ("_by_tag", "unusable")

    def __init__(self, keys: Iterable[Key]) -> None:
        self._by_tag: dict[tuple[int, int], list[Key]] = {}
        self.unusable: tuple[Key, ...] = ()
        for key in keys:
            if key.usable:
                self._by_tag.setdefault((key.tag, key.algorithm), []).append(key)
            else:
                self.unusable += (key,)

    def find(self, tag: int, algorithm: int) -> list[Key]:
        """The keys that a signature with this tag and algorithm may be of: more than one where tags collide."""
        return self._by_tag.get((tag, algorithm), [])

    def why_unusable(self, tag: int, algorithm: int) -> Key | None:
        """A key with this tag and algorithm that may not sign zone data."""
        return next((key for key in self.unusable if key.tag == tag and key.algorithm == algorithm), None)

    def __iter__(self) -> Iterator[Key]:
        return (key for keys in self._by_tag.values() for key in keys)

    def __len__(self) -> int:
        return sum(map(len, self._by_tag.values()))


class Claim(Struct, frozen=True, gc=False):
    """A signature of an RRset that is without flaw but for what its key says of it: one of `keys`, as it claims."""

    keys: list[Key]
    signature: bytes
    data: bytes
    """What it is made over (RFC 4034 3.1.8.1)."""
    ttl: int
    """Of the RRset, capped (RFC 4035 5.3.3)."""
    expanded: bool
    """Whether the RRset was made from a wildcard (RFC 4035 5.3.4)."""


class Ds(Struct, frozen=True, gc=False):
    """A delegation signer: what a parent, or a trust anchor, says of a zone's key (RFC 4034 5.1)."""

    key_tag: int
    algorithm: int
    digest_type: int
    digest: bytes

    def names(self, owner: Name, key: Key) -> bool:
        """Whether it is made of this key of the zone `owner` (RFC 4034 5.1.4)."""
        return key.digest(owner, self.digest_type) == self.digest


def read_ds_untrusted(rdata: bytes) -> Ds:
    """The DS in this RDATA; raises MalformedMessage if too short to be one."""
    if len(rdata) < 5:
        raise MalformedMessage("a DS record ends too soon")
    return Ds(int.from_bytes(rdata[:2], "big"), rdata[2], rdata[3], rdata[4:])


def known_digest(digest_type: int) -> bool:
    """Whether we compute digests of this type."""
    return digest_type in _DIGESTS


def usable_ds(records: Iterable[Ds], algorithms: frozenset[int]) -> list[Ds]:
    """Those whose algorithm and digest we know; SHA-1 is ignored where there is a stronger one (RFC 4509 3)."""
    known = [ds for ds in records if ds.digest_type in _DIGESTS and ds.algorithm in algorithms]
    stronger = [ds for ds in known if ds.digest_type != SHA1]
    return stronger or known
