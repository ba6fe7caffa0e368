"""Key tag queries (RFC 8145 5)."""

from __future__ import annotations

import trio
from stages import Canned
from trio.testing import MockClock

from dohproxy.config.settings import Anchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.errors import NoReachableUpstream
from dohproxy.resolve.signalling import signal_daily, signal_name
from dohproxy.resolve.trusted import Trusted
from dohproxy.wire.constants import DS, NULL
from dohproxy.wire.names import ROOT, from_text, to_text


def ds(zone: bytes, tag: int) -> Anchor:
    return Anchor(zone, DS, tag.to_bytes(2, "big") + b"\x0d\2" + bytes(32))


def test_the_name_has_the_tags_in_hexadecimal_and_in_order() -> None:
    assert to_text(signal_name(ROOT, frozenset((20326, 38696, 255)))) == "_ta-00ff-4f66-9728."
    assert to_text(signal_name(from_text("example."), frozenset((20326,)))) == "_ta-4f66.example."
    assert signal_name(ROOT, frozenset(range(100)))[0] == 63


async def test_each_zone_is_signalled_once_a_day_whatever_comes_back(autojump_clock: MockClock) -> None:
    zones = [ds(ROOT, 20326), ds(from_text("example."), 7), ds(from_text(".".join(["x" * 60] * 4)), 8)]
    trusted = Trusted(AnchorSet(zones), [], 5)
    below = Canned()
    below.on("_ta-4f66", NoReachableUpstream("gone"), "NULL").on("_ta-0007.example", NoReachableUpstream("gone"), "NULL")
    with trio.move_on_after(2 * 86400):
        await signal_daily(below, trusted, 5)
    asked = [(to_text(query.question.qname), query.question.qtype, query.cd) for query in below.asked]
    assert asked == [("_ta-4f66.", NULL, True), ("_ta-0007.example.", NULL, True)] * 2
