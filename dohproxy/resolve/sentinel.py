"""The root key sentinel (RFC 8509): whoever asks learns by an answer or its failure whether a key of the root is trusted."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from dohproxy.errors import SentinelFailed
from dohproxy.model import Answer, Name, Query, Security, Stage
from dohproxy.wire.constants import AAAA, A

_LABEL = re.compile(rb"[\x1d\x1e]root-key-sentinel-(is|not)-ta-(\d{5})", re.DOTALL)
_PREFIX = b"root-key-sentinel-"


def is_signal(query: Query) -> bool:
    """Whether a name has the sentinel's label, most likely, and its conditions are to be looked at."""
    return query.question.qname[1:19] == _PREFIX and not query.cd and query.question.qtype in (A, AAAA)


class Sentinel:
    """Makes secure answers to names with the sentinel's label fail, if what the label says is not so.

    `tags` tells the key tags of the root's keys that are trusted now.
    """

    def __init__(self, below: Stage, tags: Callable[[], frozenset[int]]) -> None:
        self._below, self._tags = below, tags

    def resolve(self, query: Query) -> Coroutine[Any, Any, Answer]:
        """The answer from below; raises SentinelFailed under the conditions of RFC 8509 3."""
        return self._judged(query) if is_signal(query) else self._below.resolve(query)

    async def _judged(self, query: Query) -> Answer:
        answer = await self._below.resolve(query)
        self._judge(query.question.qname, answer)
        return answer

    def _judge(self, qname: Name, answer: Answer) -> None:
        match = _LABEL.match(qname)
        if match is None or match.end() != qname[0] + 1 or answer.security is not Security.SECURE:
            return
        tag, is_trusted = int(match[2]), int(match[2]) in self._tags()
        if is_trusted != (match[1] == b"is"):
            raise SentinelFailed(f"root key sentinel: key {tag} is {'' if is_trusted else 'not '}trusted for the root")
