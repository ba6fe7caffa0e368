"""What a connection to an upstream speaks, without the connection: questions in, octets out; octets in, answers out."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from dohproxy.errors import ResolveError
from dohproxy.model import Question
from dohproxy.wire.constants import HEADER_SIZE


class Received(Struct, frozen=True, gc=False):
    """What came back for the exchange `key`: a message that answers its question, or why there will be none."""

    key: int
    reply: bytes | ResolveError
    age: int = 0
    """Seconds that the answer had spent in caches on its way (RFC 8484 5.1)."""


class Session(Protocol):
    """The client's side of one connection. It knows no socket and no clock; time-outs are its user's."""

    @property
    def ready(self) -> bool:
        """Whether the peer has said what must be known before the first exchange."""
        ...

    @property
    def capacity(self) -> int:
        """How many more exchanges may begin now."""
        ...

    @property
    def closing(self) -> bool:
        """Whether no exchange may ever begin again; those under way may still be answered."""
        ...

    def begin(self, question: Question, cd: bool = False) -> int:
        """Put a question into the outgoing octets: the key of the exchange. Only while there is capacity.

        `cd` sets CD for this question, where it is not set for all.
        """
        ...

    def forget(self, key: int) -> None:
        """Nobody waits for this exchange any longer."""
        ...


class StreamSession(Session, Protocol):
    """A session whose connection is one stream of octets."""

    def receive_untrusted(self, data: bytes) -> list[Received]:
        """What these octets complete. Raises MalformedMessage where nothing that follows can be trusted."""
        ...

    def take(self) -> list[bytes]:
        """The octets to send, each piece to be a TLS record of its own; they are sent once only."""
        ...


def question_octets(question: Question) -> bytes:
    """The question section (RFC 1035 4.1.2)."""
    return question.qname + (question.qtype << 16 | question.qclass).to_bytes(4)


def answers(message: bytes, question: bytes) -> bool:
    """Whether a message is a response (QR, opcode QUERY) to just this question: name in any case, type and class."""
    if len(message) < HEADER_SIZE or message[2] & 0xF8 != 0x80 or message[4:6] != b"\0\1":
        return False
    if message.startswith(question, HEADER_SIZE):
        return True
    asked = message[HEADER_SIZE : HEADER_SIZE + len(question)]
    return asked[-4:] == question[-4:] and asked[:-4].lower() == question[:-4]
