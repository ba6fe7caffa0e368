"""Key tag queries (RFC 8145 5): a question whose name tells the upstreams, and the zone, which keys are trusted here."""

from __future__ import annotations

import trio

from dohproxy.errors import ResolveError
from dohproxy.model import INTERNAL, Name, Query, Question, Stage
from dohproxy.resolve.trusted import Trusted
from dohproxy.wire.constants import NULL

FIRST, DAY = 60.0, 86400.0
"""Seconds from the start to the first signal, and from one to the next."""


def signal_name(zone: Name, tags: frozenset[int]) -> Name:
    """Such as `_ta-4f66-9728.` (RFC 8145 5.1): more tags than a label has room for are left out."""
    label = ("_ta-" + "-".join(f"{tag:04x}" for tag in sorted(tags)[:12])).encode()
    return bytes([len(label)]) + label + zone


async def signal_daily(below: Stage, trusted: Trusted, patience: float) -> None:
    """Signal for each zone with anchors once a day, until cancelled; an answer is waited for (seconds), and not looked at."""
    await trio.sleep(FIRST)
    while True:
        for zone in trusted.anchors.zones:
            await _signal(below, zone, trusted, patience)
        await trio.sleep(DAY)


async def _signal(below: Stage, zone: Name, trusted: Trusted, patience: float) -> None:
    anchor = trusted.anchors.of(zone)
    if anchor is None or len(zone) > 255 - 64:
        return
    question = Question(signal_name(zone, anchor.tags), NULL)
    try:
        await below.resolve(Query(question, INTERNAL, trio.current_time() + patience, cd=True))
    except ResolveError:
        return
