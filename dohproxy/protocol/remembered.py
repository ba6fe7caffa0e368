"""What is remembered of messages that are much the same: within bounds, since it is the peer who sends them."""

from __future__ import annotations

from typing import Final, TypeVar

MOST: Final = 256
MOST_OCTETS: Final = 512
"""What is larger is seldom sent twice."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Remembered(dict[_Key, _Value]):
    """Values by keys, all forgotten once there are too many."""

    def keep(self, key: _Key, value: _Value, octets: int) -> None:
        """Remember this, unless what it was made of has too many octets."""
        if octets > MOST_OCTETS:
            return
        if len(self) >= MOST:
            self.clear()
        self[key] = value
