"""An h2 connection for a client that asks the same thing again and again: h2's rules, without what they cost it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack.hpack import Encoder

_RECEIVE_WINDOW: Final = 1 << 20
"""Octets of answers that may be on their way to us."""
_COUNTED: Final = 64
"""Streams begun between two counts."""


class Http2(H2Connection):
    """Counts its streams, and forgets those that are over, once in a while.

    h2 would go through all of them for each that begins; the peer's limit is kept by who begins them.
    """

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self.encoder = RepeatingEncoder()
        self._begun = 0

    @property
    def open_outbound_streams(self) -> int:
        """The number of streams under way, or 0 between two counts."""
        self._begun += 1
        return super().open_outbound_streams if self._begun % _COUNTED == 0 else 0


class RepeatingEncoder(Encoder):
    """Remembers the last header block while it means the same.

    A block of nothing but one-octet indices (RFC 7541 6.1) changes no table, and holds until one does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._headers: list[Any] = []
        self._block = b""

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        """The header block."""
        listed = list(headers)
        if self._block and listed == self._headers and not self.table_size_changes:
            return self._block
        block = super().encode(listed, huffman)
        repeatable = all(octet & 0x80 for octet in block)
        self._headers, self._block = listed, block if repeatable else b""
        return block


def open_http2(streams: int) -> Http2:
    """A client's connection with its preface in the outgoing octets.

    Our own headers are right as they are. Of the peer's, the few that matter are looked at where they are used.
    """
    connection = Http2(
        H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
    )
    ours = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.MAX_CONCURRENT_STREAMS: streams}
    connection.local_settings = Settings(client=True, initial_values=ours)  # an update would only be told in a later frame
    connection.initiate_connection()
    connection.increment_flow_control_window(_RECEIVE_WINDOW)
    return connection
