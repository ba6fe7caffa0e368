"""Messages of Oblivious DoH, against the vectors of odoh-go (for RFC 9230) and a target of our own."""

from __future__ import annotations

import pytest
from odoh_peers import OdohTarget

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.odoh import Sealed, Target, hpke_suite, parse_configs_untrusted

CONFIGS = bytes.fromhex("002cff06002800200001000100203c7769245980d261c2189e4ed0e05e61d560263a88d6c6c5858187fe75392877")
"""Of version 0xff06, as the drafts had it; the contents are as ever."""
SEED = bytes.fromhex("5e32c845d3453f73f4d899662ef64dc45c4b1d207944ccf1bcdefd04a232ee2c")
KEY_ID = bytes.fromhex("2e8b2b5f69a41e7d019361cbf4319a29cf3bb5b694ac126b86c5e9bb86e0216f")
OBLIVIOUS_QUERY = bytes.fromhex(
    "0100202e8b2b5f69a41e7d019361cbf4319a29cf3bb5b694ac126b86c5e9bb86e0216f00545ed85db2d4aafe2d34538dfd7e455e83a644af"
    "a6e8c92e2b674f68322a0ed262736c8cf91cfe6127e6d4a3067cf955019ae866cd33c61253841af43a9dd60157e9d7cbabe351885f3a6b6c"
    "4c14d293763234319e"
)
QUERY = bytes.fromhex("781e4a0e2f758cd075d0483a6863c055c874df4169d6fcae1e0269b0eeb534e3")
OBLIVIOUS_RESPONSE = bytes.fromhex(
    "020010b789220ab024661a4f05a040e6dc25220054c6a664f4dee4e78199a861e2697c7ed09d1a19203d27ea650dacc59edba93aa98c9e93"
    "09bddd946ffbcd091c638bd9bc41bf1877334601a49ca8b85417a9f194b5f3bac9d717dbc7075aba6ed832e6299e00fe5b"
)
PADDED_QUERY = bytes.fromhex(
    "0100202e8b2b5f69a41e7d019361cbf4319a29cf3bb5b694ac126b86c5e9bb86e0216f0054dc7733a1156a4619f0ed910e0ba7b037891c05"
    "57a220f57942afcecb13e45e2608c744c97258a146210a4567ed4b8122ddeaa0cacd0fef0a5d63d4a101ff3c7892df36fa702c7e7188ebf4"
    "bfd4b299b3bd93746c"
)
PADDED_RESPONSE = bytes.fromhex(
    "0200107d535c70d90aba153ed34bb7a40c26bd0094bef8bcc4f94a85b4e0f38b9b82a77710ca6491cb65d1499eff7c2a5fffe0215ece62ed"
    "1e08c1ceb61336bd0bb41c47260e1263e77d9079d3e6ec09fca1c6c939b638927e5a1513d71d3ac29eb4c1b8b18a0e513e7e73085d13b504"
    "47ae92d908d065c0db4a326c971af54979c437763fad76f97c14b92de595e8afe9bdbd7e8c03c407e71aa639e6855e890fc1f5ed609d016458"
)


def as_published(configs: bytes) -> bytes:
    """With the version number that RFC 9230 6.1 gave out."""
    return configs.replace(b"\xff\x06", b"\0\1", 1)


def test_the_name_of_a_key() -> None:
    config = parse_configs_untrusted(as_published(CONFIGS))
    assert Target(config).key_id == KEY_ID


@pytest.mark.parametrize(
    ("query", "response"), [(OBLIVIOUS_QUERY, OBLIVIOUS_RESPONSE), (PADDED_QUERY, PADDED_RESPONSE)], ids=["plain", "padded"]
)
def test_responses_of_the_vectors(query: bytes, response: bytes) -> None:
    suite = hpke_suite()
    pair = suite.kem.derive_key_pair(SEED)
    sealed = query[3 + 32 + 2 :]
    context = suite.create_recipient_context(sealed[:32], pair.private_key, b"odoh query")
    plain = context.open(sealed[32:], query[:35])
    question = plain[2 : 2 + int.from_bytes(plain[:2])]
    assert Sealed(suite, context, plain).open_untrusted(response) == question * 2
    if query is OBLIVIOUS_QUERY:
        assert question == QUERY


def test_a_target_opens_what_is_sealed_for_it() -> None:
    peer = OdohTarget()
    target = Target(parse_configs_untrusted(peer.configs))
    octets, sealed = target.seal(b"a query")
    message, seal = peer.open(octets)
    assert message == b"a query"
    assert b"a query" not in octets
    assert sealed.open_untrusted(seal(b"an answer")) == b"an answer"
    assert sealed.open_untrusted(seal(b"an answer", padding=100)) == b"an answer"


def test_no_two_are_alike() -> None:
    target = Target(parse_configs_untrusted(OdohTarget().configs))
    assert target.seal(b"a query")[0] != target.seal(b"a query")[0]


def test_an_answer_to_another_query_is_none() -> None:
    peer = OdohTarget()
    target = Target(parse_configs_untrusted(peer.configs))
    (first, sealed), (second, _) = target.seal(b"a query"), target.seal(b"a query")
    _, seal = peer.open(second)
    with pytest.raises(MalformedMessage, match="not sealed for this query"):
        sealed.open_untrusted(seal(b"an answer"))
    _, seal = peer.open(first)
    good = seal(b"an answer")
    for at in range(len(good)):
        with pytest.raises(MalformedMessage):
            sealed.open_untrusted(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
        with pytest.raises(MalformedMessage):
            sealed.open_untrusted(good[:at])
    with pytest.raises(MalformedMessage, match="another form"):
        sealed.open_untrusted(good + b"\0")
    for strange in (seal(b""), seal(b"an answer", padding=3, filler=b"\1"), seal(b"an answer", more=b"x")):
        with pytest.raises(MalformedMessage, match="something else"):
            sealed.open_untrusted(strange)


def listed(*configs: bytes) -> bytes:
    joined = b"".join(configs)
    return len(joined).to_bytes(2) + joined


def test_the_first_key_that_is_known_counts() -> None:
    good = OdohTarget().configs[2:]
    unknown = b"\0\2\0\3abc"
    p256 = b"\0\1\0\x0c\0\x10\0\1\0\1\0\4abcd"
    assert parse_configs_untrusted(listed(unknown, p256, good)).contents == good[4:]


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "as long as they say"),
        (b"\0\1", "as long as they say"),
        (b"\0\0", "no key"),
        (CONFIGS, "no key"),
        (listed(b"\0\2\0\3abc"), "no key"),
        (listed(b"\0\1\0\3ab"), "ends early"),
        (listed(b"\0"), "ends early"),
        (listed(b"\0\1\0\x0a\0\x20\0\1\0\1\0\2ab"), "not as long"),
    ],
)
def test_no_keys(octets: bytes, why: str) -> None:
    with pytest.raises(MalformedMessage, match=why):
        parse_configs_untrusted(octets)


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)])
def test_points_of_low_order_are_no_keys(point: bytes) -> None:
    contents = b"\0\x20\0\1\0\1\0\x20" + point
    config = parse_configs_untrusted(listed(b"\0\1" + len(contents).to_bytes(2) + contents))
    with pytest.raises(MalformedMessage, match="a key that is none"):
        Target(config)
