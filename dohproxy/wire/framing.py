"""Messages in a stream: each behind its length in two octets (RFC 1035 4.2.2, RFC 7766 8)."""

from __future__ import annotations

from dohproxy.errors import MalformedMessage
from dohproxy.wire.constants import MAX_MESSAGE


def frame(message: bytes) -> bytes:
    """The message behind its length; raises ValueError over 65535 octets, which is our own mistake."""
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"a message of {len(message)} octets")
    return len(message).to_bytes(2) + message


class Unframer:
    """Cuts what a stream brings into messages; holds no more than one that is not yet complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_untrusted(self, data: bytes) -> list[bytes]:
        """The messages that are complete now. Raises MalformedMessage for a length of zero: nothing sound follows it."""
        buffer = self._buffer
        buffer += data
        messages, at = [], 0
        while len(buffer) - at >= 2:
            end = at + 2 + (buffer[at] << 8 | buffer[at + 1])
            if end == at + 2:
                raise MalformedMessage("a message of no octets")
            if end > len(buffer):
                break
            messages.append(bytes(buffer[at + 2 : end]))
            at = end
        del buffer[:at]
        return messages

    @property
    def amid_message(self) -> bool:
        """Whether a message has begun and not ended: the stream must not end now."""
        return bool(self._buffer)
