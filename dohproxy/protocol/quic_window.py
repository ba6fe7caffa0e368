"""How much a peer may send over a QUIC connection before it is read: aioquic would raise that with whatever comes, gaps too."""

from __future__ import annotations

from collections.abc import Callable

from aioquic.quic.connection import Limit
from aioquic.quic.packet import QuicFrameType


class Window(Limit):
    """The connection's flow control: always so much more than what was taken, less what is held."""

    def __init__(self, octets: int, held: Callable[[], int]) -> None:
        self._octets, self._held = octets, held
        self._value = octets
        super().__init__(QuicFrameType.MAX_DATA, "max_data", octets)

    @property
    def value(self) -> int:
        """How much the peer may send in all."""
        return self._value

    @value.setter
    def value(self, _: int) -> None:
        """aioquic would have it doubled: raise it as far as there is room, in steps worth a frame."""
        if self._value - self.used <= self._octets // 2:
            self._value = max(self._value, self.used + self._octets - self._held())
