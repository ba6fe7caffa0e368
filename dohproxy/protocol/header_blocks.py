"""Header blocks (RFC 7541) for who reads and writes the same ones again and again: hpack's, without what repeating costs."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from hpack import NeverIndexedHeaderTuple
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.hpack import Decoder, Encoder
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.doh_exchange import ResponseHead, response_head
from dohproxy.protocol.doh_request import MOST_HEADERS, Fields, Head, head_untrusted
from dohproxy.protocol.remembered import Remembered

NO_TABLE: Final = b"\x20"
"""At the start of a header block: its writer keeps no table (RFC 7541 6.3)."""
_INDICES: Final = re.compile(rb"[\x81-\xfe]*")
"""References to the table of an octet each."""
_PATH: Final = frozenset((0x04, 0x14))
"""A value for `:path`, not to be entered into the table."""
_VISIBLE: Final = re.compile(rb"/[\x21-\x7e]*")
_OF_REQUEST: Final = HeaderValidationFlags(is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False)


class Oversized(MalformedMessage):
    """Headers that are more than we take. What follows on the connection cannot be read any more."""


class Undecodable(MalformedMessage):
    """No header block: what follows on the connection cannot be read any more."""


class _Table(HeaderTable):
    """Counts how often it was changed."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    def _shrink(self) -> None:
        self.changes += 1
        super()._shrink()

    @property
    def maxsize(self) -> int:
        """Octets; a block that says how many is heeded each time that it comes (RFC 7541 6.3)."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, size: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.fset(self, size)  # type: ignore[attr-defined]  # of a property


class _Split(NamedTuple):
    """A block that is nothing but references to the table, and the path: how a client sends one GET request after another."""

    around: tuple[bytes, bytes]
    """What is ahead of the path, and behind it."""
    path: bytes
    coded: bool
    """Whether it is in Huffman's code."""


def _split(block: bytes) -> _Split | None:
    """The parts of such a block (RFC 7541 5.2, 6.1, 6.2.2, 6.2.3); None if it is another one, or none."""
    head = _INDICES.match(block)
    at = head.end() if head is not None else 0
    if len(block) < at + 3 or block[at] not in _PATH:
        return None
    size, start = block[at + 1] & 0x7F, at + 2
    if size == 0x7F:  # and some more
        size, start = 0x7F + block[start], start + 1
        if size >= 0xFF:
            return None
    end = start + size
    behind = block[end:]
    if end > len(block) or not _INDICES.fullmatch(behind):
        return None
    return _Split((block[:at], behind), block[start:end], block[at + 1] > 0x7F)


@lru_cache(8192)
def _decoded(path: bytes) -> bytes:
    return decode_huffman(path)


class RequestDecoder:
    """Reads the header blocks of one connection, and remembers what they meant for as long as they mean it."""

    def __init__(self) -> None:
        self._decoder = Decoder(MOST_HEADERS)
        self._table = self._decoder.header_table = _Table()
        self._known = Remembered[bytes, Head]()
        self._around = Remembered[tuple[bytes, bytes], Head]()
        """What blocks with paths of their own mean but for these."""

    def head_untrusted(self, block: bytes) -> Head:
        """What this block says of a request.

        Raises Oversized or Undecodable; any other MalformedMessage is about this request alone (RFC 9113 8.1.1).
        """
        if (head := self._known.get(block)) is not None:
            return head
        split = _split(block)
        if split is not None and (head := self._with_path(split)) is not None:
            return head
        changes = self._table.changes
        try:
            headers = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            raise Oversized("headers of too many octets") from error
        except HPACKError as error:
            raise Undecodable(f"a header block that is none: {error}") from error
        if self._table.changes != changes:
            self._known.clear()
            self._around.clear()
        try:
            head = head_untrusted((header[0], header[1]) for header in validate_headers(headers, _OF_REQUEST))
        except ProtocolError as error:
            raise MalformedMessage(f"headers of no request: {error}") from error
        if split is not None:
            self._around.keep(split.around, head, len(block))
        elif self._table.changes == changes:
            self._known.keep(block, head, len(block))
        return head

    def _with_path(self, split: _Split) -> Head | None:
        """What a block means that differs from one before in its path alone."""
        if (head := self._around.get(split.around)) is None:
            return None
        try:
            path = _decoded(split.path) if split.coded else split.path
        except HPACKError:
            return None
        return Head(head.method, path, *head[2:]) if _VISIBLE.fullmatch(path) else None


class ResponseDecoder:
    """Reads the header blocks of one server, and remembers what they meant for as long as they mean it."""

    def __init__(self, most: int) -> None:
        """`most` octets of headers are taken."""
        self._decoder = Decoder(most)
        self._table = self._decoder.header_table = _Table()
        self._known = Remembered[bytes, ResponseHead]()

    def head_untrusted(self, block: bytes) -> ResponseHead:
        """What this block says of a response. Raises Oversized or Undecodable."""
        if (known := self._known.get(block)) is not None:
            return known
        changes = self._table.changes
        try:
            head = response_head((header[0], header[1]) for header in self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise Oversized("HTTP/2: headers of too many octets") from error
        except HPACKError as error:
            raise Undecodable(f"HTTP/2: a header block that is none: {error}") from error
        if self._table.changes != changes:
            self._known.clear()
        else:
            self._known.keep(block, head, len(block))
        return head


class RequestEncoder:
    """Writes the header blocks of one connection, and remembers them while they mean the same.

    A block of nothing but one-octet indices (RFC 7541 6.1) changes no table, and holds until one does.
    """

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._known = Remembered[tuple[tuple[bytes, bytes], ...], bytes]()

    def block(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The header block."""
        fields = tuple(headers)
        if (known := self._known.get(fields)) is not None:
            return known
        block = self._encoder.encode(headers)
        if _INDICES.fullmatch(block) is None:
            self._known.clear()
        else:
            self._known.keep(fields, block, len(block))
        return block

    def resize(self, table: int) -> None:
        """The server keeps a table of so many octets: the next block says so, and which was the smallest (RFC 7541 4.2)."""
        encoder = self._encoder
        if table == encoder.header_table_size:
            return
        encoder.header_table_size = table
        if len(encoder.table_size_changes) > 2:
            encoder.table_size_changes = [min(encoder.table_size_changes), table]
        self._known.clear()


@lru_cache(4096)
def response_block(fields: Fields) -> bytes:
    """The header block of a response: the same on every connection, since it needs no table."""
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in fields]))
