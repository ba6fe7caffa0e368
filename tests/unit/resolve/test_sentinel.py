"""The root key sentinel (RFC 8509 3)."""

from __future__ import annotations

import pytest
from stages import Canned, answer, query

from dohproxy.errors import SentinelFailed
from dohproxy.model import Security
from dohproxy.resolve.sentinel import Sentinel

IS, NOT = "root-key-sentinel-is-ta-", "root-key-sentinel-not-ta-"


async def failed(label: str, *, qtype: str = "A", security: Security = Security.SECURE, cd: bool = False) -> bool:
    """Whether the answer is withheld, where 20326 and 255 are trusted."""
    name = f"{label}.example"
    below = Canned().on(name, answer(f"{name}. 60 A 192.0.2.1", security=security), qtype)
    stage = Sentinel(below, lambda: frozenset((20326, 255)))
    try:
        assert (await stage.resolve(query(name, qtype, cd=cd))).answer
    except SentinelFailed as error:
        assert error.rcode == 2
        assert error.edes[0].text.startswith("root key sentinel: key ")
        return True
    return False


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (IS + "20326", False),
        (IS + "38696", True),
        (NOT + "20326", True),
        (NOT + "38696", False),
        (IS + "00255", False),
        (NOT + "00255", True),
        (IS + "99999", True),
    ],
)
@pytest.mark.parametrize("qtype", ["A", "AAAA"])
async def test_a_key_is_told_by_which_name_fails(label: str, expected: bool, qtype: str) -> None:
    assert await failed(label, qtype=qtype) is expected


@pytest.mark.parametrize(
    "label",
    [
        "www",
        NOT + "20326.www",
        IS + "3869",
        IS + "386960",
        IS + "0x123",
        "x" + IS + "38696",
        "root-key-sentinel-isnt-ta-38696",
        "root-key-sentinel-",
    ],
)
async def test_other_labels_are_names_like_all_others(label: str) -> None:
    assert await failed(label) is (label == NOT + "20326.www")


async def test_only_secure_addresses_are_withheld() -> None:
    assert not await failed(IS + "38696", qtype="TXT")
    assert not await failed(IS + "38696", security=Security.INSECURE)
    assert not await failed(IS + "38696", security=Security.BOGUS)
    assert not await failed(IS + "38696", cd=True)
