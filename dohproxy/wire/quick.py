"""What every miss goes through, compiled where the build could compile it: the ordinary there, all else in Python.

The environment variable DOHPROXY_CORE chooses, as it does for `dohproxy.core`.
"""

from __future__ import annotations

from os import environ
from types import ModuleType

from dohproxy.model import Answer, Transport
from dohproxy.wire import constants as c
from dohproxy.wire import message, reply, request


def _chosen(wish: str) -> ModuleType | None:
    if wish not in ("", "compiled"):
        return None
    try:
        from dohproxy.wire import _compiled  # noqa: PLC0415 -- it may not be there
    except ImportError:
        if wish:
            raise
        return None
    return _compiled


_compiled = _chosen(environ.get("DOHPROXY_CORE", ""))

if _compiled is None:
    parse_request_untrusted = request.parse_request_untrusted
    parse_message_untrusted = message.parse_message_untrusted
    compile_reply = reply.compile_reply

    def ordinary_answer_untrusted(wire: bytes, upstream: str, transport: Transport, born: float) -> Answer | None:  # noqa: ARG001
        """None: nothing is ordinary enough."""
        return None

else:
    ordinary_answer_untrusted = _compiled.ordinary_answer
    _request, _message, _reply = _compiled.ordinary_request, _compiled.ordinary_message, _compiled.ordinary_reply

    def parse_request_untrusted(wire: bytes) -> request.Request:
        """See request.py."""
        return _request(wire) or request.parse_request_untrusted(wire)

    def parse_message_untrusted(wire: bytes) -> message.Message:
        """See message.py."""
        return _message(wire) or message.parse_message_untrusted(wire)

    def compile_reply(answer: Answer, request: request.Request, *, payload_size: int = c.PAYLOAD_SIZE) -> reply.Reply:
        """See reply.py."""
        return _reply(answer, request, payload_size) or reply.compile_reply(answer, request, payload_size=payload_size)
