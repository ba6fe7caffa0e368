"""Header blocks (RFC 7541) for who reads and writes the same ones again and again: hpack's, without what repeating costs."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from hpack import NeverIndexedHeaderTuple
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.hpack import Decoder, Encoder
from hpack.table import HeaderTable

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.doh_request import MOST_HEADERS, Fields, Head, head_untrusted

NO_TABLE: Final = b"\x20"
"""At the start of a header block: its writer keeps no table (RFC 7541 6.3)."""
_REMEMBERED: Final = 256
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


class RequestDecoder:
    """Reads the header blocks of one connection, and remembers what they meant for as long as they mean it."""

    def __init__(self) -> None:
        self._decoder = Decoder(MOST_HEADERS)
        self._table = self._decoder.header_table = _Table()
        self._known: dict[bytes, Head] = {}

    def head_untrusted(self, block: bytes) -> Head:
        """What this block says of a request.

        Raises Oversized or Undecodable; any other MalformedMessage is about this request alone (RFC 9113 8.1.1).
        """
        if (head := self._known.get(block)) is not None:
            return head
        changes = self._table.changes
        try:
            headers = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            raise Oversized("headers of too many octets") from error
        except HPACKError as error:
            raise Undecodable(f"a header block that is none: {error}") from error
        if self._table.changes != changes or len(self._known) >= _REMEMBERED:
            self._known.clear()
        try:
            head = head_untrusted((header[0], header[1]) for header in validate_headers(headers, _OF_REQUEST))
        except ProtocolError as error:
            raise MalformedMessage(f"headers of no request: {error}") from error
        if self._table.changes == changes:
            self._known[block] = head
        return head


@lru_cache(4096)
def response_block(fields: Fields) -> bytes:
    """The header block of a response: the same on every connection, since it needs no table."""
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in fields]))
