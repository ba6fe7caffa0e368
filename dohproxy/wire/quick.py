"""What every miss goes through, compiled where the build could compile it: the ordinary there, all else in Python.

Which it is, `choice` tells.
"""

from __future__ import annotations

from dohproxy.model import Answer, Name, Question, Transport
from dohproxy.wire import constants as c
from dohproxy.wire import message as messages
from dohproxy.wire import reply as replies
from dohproxy.wire import request as requests
from dohproxy.wire.choice import compiled_part
from dohproxy.wire.framing import frame
from dohproxy.wire.query import build_query

_compiled = compiled_part("dohproxy.wire")

if _compiled is None:
    parse_request_untrusted = requests.parse_request_untrusted
    parse_message_untrusted = messages.parse_message_untrusted
    compile_reply, render = replies.compile_reply, replies.render

    def framed_query(question: Question, id: int, cd: bool, pad_to: int) -> bytes:
        """A query of `build_query`, behind its length."""
        return frame(build_query(question, id, cd=cd, pad_to=pad_to))

    def ordinary_answer_untrusted(wire: bytes, upstream: str, transport: Transport, born: float) -> Answer | None:  # noqa: ARG001
        """None: nothing is ordinary enough."""
        return None

    def cut_answers_untrusted(data: bytes, asked: dict[int, bytes]) -> tuple[list[tuple[int, bytes]], int]:  # noqa: ARG001
        """Nothing is ordinary enough."""
        return [], 0

    def finished_reply(
        answer: Answer,  # noqa: ARG001
        request: requests.Request,  # noqa: ARG001
        payload_size: int,  # noqa: ARG001
        now: float,  # noqa: ARG001
        limit: int,  # noqa: ARG001
        share: float,  # noqa: ARG001
        security: int,  # noqa: ARG001
        told: bool,  # noqa: ARG001
    ) -> tuple[bytes, bytes | None, bytes | None] | None:
        """None: see core/finished.py."""
        return None

    def packed_reply(reply: replies.Reply, until: float, security: int, told: bool) -> bytes | None:  # noqa: ARG001
        """None: see core/finished.py."""
        return None

else:
    ordinary_answer_untrusted = _compiled.ordinary_answer
    cut_answers_untrusted, packed_reply = _compiled.cut_answers, _compiled.packed_reply
    finished_reply = _compiled.finished_reply
    _rendered, _query = _compiled.rendered, _compiled.built_query
    _request, _message, _reply = _compiled.ordinary_request, _compiled.ordinary_message, _compiled.ordinary_reply

    def parse_request_untrusted(wire: bytes) -> requests.Request:
        """See request.py."""
        return _request(wire) or requests.parse_request_untrusted(wire)

    def parse_message_untrusted(wire: bytes) -> messages.Message:
        """See message.py."""
        return _message(wire) or messages.parse_message_untrusted(wire)

    def compile_reply(answer: Answer, request: requests.Request, *, payload_size: int = c.PAYLOAD_SIZE) -> replies.Reply:
        """See reply.py."""
        return _reply(answer, request, payload_size) or replies.compile_reply(answer, request, payload_size=payload_size)

    def render(reply: replies.Reply, id: int, qname: Name, now: float, limit: int) -> bytes:
        """See reply.py."""
        return _rendered(reply, id, qname, now, limit) or replies.render(reply, id, qname, now, limit)

    def framed_query(question: Question, id: int, cd: bool, pad_to: int) -> bytes:
        """A query of `build_query`, behind its length."""
        return _query(question, id, cd, pad_to) or frame(build_query(question, id, cd=cd, pad_to=pad_to))
