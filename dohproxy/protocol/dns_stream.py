"""DNS over a stream, the client's side: many questions under way, answered in any order (RFC 7766, RFC 7858)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import starmap
from typing import Final

from dohproxy.errors import MalformedMessage
from dohproxy.model import Question
from dohproxy.protocol.session import Received, answers
from dohproxy.wire.constants import HEADER_SIZE
from dohproxy.wire.framing import Unframer
from dohproxy.wire.quick import cut_answers_untrusted, framed_query

_QUESTION_AT: Final = 2 + HEADER_SIZE
"""Where the question section of a framed message begins."""


class DnsStream:
    """One connection's exchanges by message ID.

    `random_id` draws from 0 to 65535. At most `pipeline` exchanges are under way. The ID of a forgotten one stays taken
    until its late answer has come, so that an ID never means two questions; when as many are forgotten as may be under
    way, the connection has had its time.
    """

    ready = True

    def __init__(
        self, random_id: Callable[[], int], *, pipeline: int, checking_disabled: bool = True, pad_to: int = 128
    ) -> None:
        self._random_id = random_id
        self._pipeline = pipeline
        self._cd = checking_disabled
        self._pad_to = pad_to
        self._asked: dict[int, bytes] = {}
        self._forgotten: dict[int, bytes] = {}
        self._outgoing: list[bytes] = []
        self._unframer = Unframer()

    @property
    def capacity(self) -> int:
        """How many more exchanges may begin now."""
        return 0 if len(self._forgotten) >= self._pipeline else self._pipeline - len(self._asked)

    @property
    def closing(self) -> bool:
        """Whether no exchange may ever begin again."""
        return len(self._forgotten) >= self._pipeline

    def begin(self, question: Question, cd: bool = False) -> int:
        """Ask: the key of the exchange."""
        id = self._random_id()
        while id in self._asked or id in self._forgotten:
            id = self._random_id()
        query = framed_query(question, id, self._cd or cd, self._pad_to)
        self._asked[id] = query[_QUESTION_AT : _QUESTION_AT + len(question.qname) + 4]
        self._outgoing.append(query)
        return id

    def forget(self, key: int) -> None:
        """Nobody waits for this exchange any longer."""
        if (question := self._asked.pop(key, None)) is not None:
            self._forgotten[key] = question

    def receive_untrusted(self, data: bytes) -> list[Received]:
        """What these octets complete. Raises MalformedMessage where nothing that follows can be trusted."""
        found: list[Received] = []
        if not self._unframer.amid_message:
            quick, end = cut_answers_untrusted(data, self._asked)
            found = list(starmap(Received, quick))
            if end == len(data):
                return found
            data = data[end:]
        for message in self._unframer.receive_untrusted(data):
            if (id := self._match_untrusted(message)) is not None:
                found.append(Received(id, message))
        return found

    def _match_untrusted(self, message: bytes) -> int | None:
        """The ID of the exchange that this answers; None if nobody waits for it any more.

        Whoever answers what was not asked has lost count: raises MalformedMessage (RFC 5452 9.1).
        """
        id = int.from_bytes(message[:2])
        if (question := self._asked.get(id)) is not None:
            if not answers(message, question):
                raise MalformedMessage("an answer to another question")
            del self._asked[id]
            return id
        if (question := self._forgotten.pop(id, None)) is None:
            raise MalformedMessage("an answer with an ID that was not asked")
        if not answers(message, question):
            raise MalformedMessage("an answer to another question")
        return None

    def take(self) -> list[bytes]:
        """The octets to send, once only."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing
