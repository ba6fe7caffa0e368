"""An upstream's reply as an Answer."""

from __future__ import annotations

from dohproxy.errors import MalformedMessage, UpstreamFailed
from dohproxy.model import Answer, Ede, Transport
from dohproxy.wire.constants import OPTION_EDE, TC
from dohproxy.wire.message import Message, parse_message_untrusted


def answer_from(reply: bytes, upstream: str, transport: Transport, born: float) -> Answer:
    """What the reply says, without its additional section; `born` is when its TTLs began to count down.

    Raises UpstreamFailed for garbage and for a truncated reply, which has no place in a stream.
    """
    try:
        message = parse_message_untrusted(reply)
    except MalformedMessage as error:
        raise UpstreamFailed(f"a malformed answer ({error})") from error
    if message.flags & TC:
        raise UpstreamFailed("a truncated answer")
    return Answer(
        rcode=message.rcode,
        answer=message.answer,
        authority=message.authority,
        ede=_extended_errors(message) if message.edns is not None else (),
        born=born,
        upstream=upstream,
        transport=transport,
    )


def _extended_errors(message: Message) -> tuple[Ede, ...]:
    """Those that the reply carries (RFC 8914 2); one too short to have a code is left out."""
    options = message.edns.options if message.edns is not None else ()
    return tuple(
        Ede(int.from_bytes(value[:2]), value[2:].decode("utf-8", "replace").rstrip("\0"))
        for code, value in options
        if code == OPTION_EDE and len(value) >= 2
    )
