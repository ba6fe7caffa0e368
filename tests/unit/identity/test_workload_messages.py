"""Protobuf of the Workload API, read by hand."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spiffe_agents import bundles, der_of, field, issue, svids

from dohproxy.errors import MalformedMessage
from dohproxy.identity.workload_messages import parse_bundles_untrusted, parse_svids_untrusted
from dohproxy.lab.certificates import Authority

AUTHORITY = Authority()
MESSAGE = svids(issue(AUTHORITY, "spiffe://prod.example/web"), federated={"other.example": der_of(AUTHORITY) * 2})


def test_a_whole_answer() -> None:
    said = parse_svids_untrusted(MESSAGE)
    (svid,) = said.svids
    assert (svid.spiffe_id, svid.hint, len(svid.chain)) == ("spiffe://prod.example/web", "internal", 1)
    assert svid.bundle == (der_of(AUTHORITY),)
    assert dict(said.federated) == {"other.example": (der_of(AUTHORITY),) * 2}


def test_bundles() -> None:
    assert dict(parse_bundles_untrusted(bundles({"prod.example": der_of(AUTHORITY)}))) == {"prod.example": (der_of(AUTHORITY),)}


def test_fields_of_other_kinds_and_numbers_are_passed_over() -> None:
    unknown = b"\x48\x96\x01" + b"\x51" + bytes(8) + b"\x5d" + bytes(4) + field(99, b"new")
    assert parse_svids_untrusted(unknown + MESSAGE + unknown) == parse_svids_untrusted(MESSAGE)


@pytest.mark.parametrize("octets", [b"\x0a", b"\x0a\x05abc", b"\x0b", b"\xff" * 11, b"\x09abc", field(1, field(1, b"\xff"))])
def test_what_is_no_message(octets: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_svids_untrusted(octets)


def test_a_cut_message_is_malformed_or_a_shorter_one() -> None:
    for end in range(len(MESSAGE)):
        with suppress(MalformedMessage):
            parse_svids_untrusted(MESSAGE[:end])


@given(st.binary(max_size=200), st.integers(0, len(MESSAGE)))
def test_garbage_is_malformed_or_read(octets: bytes, at: int) -> None:
    for parse in (parse_svids_untrusted, parse_bundles_untrusted):
        for data in (octets, MESSAGE[:at] + octets + MESSAGE[at + len(octets) :]):
            with suppress(MalformedMessage):
                parse(data)
