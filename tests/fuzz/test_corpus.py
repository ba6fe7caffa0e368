"""The corpora of the fuzzers, replayed; honest answers also with octets changed: clean outcomes, bounded work."""

from __future__ import annotations

from collections.abc import Iterator

import fuzzed
import pytest
from fuzz_targets import TARGETS
from fuzzed import ASKED, RECORDED, Bench, corpus, unpack

from dohproxy.dnssec.budget import DEFAULT_LIMITS, Budget
from dohproxy.model import Security

SECURE, INSECURE = Security.SECURE, Security.INSECURE


def damaged(octets: bytes, step: int) -> Iterator[bytes]:
    """The octets cut short, and with one changed: at every so many places."""
    for at in range(0, len(octets), step):
        yield octets[:at]
        for value in (0, 0xFF, octets[at] ^ 1, octets[at] ^ 0x80):
            yield octets[:at] + bytes((value,)) + octets[at + 1 :]


def test_what_was_recorded_is_judged_as_ever() -> None:
    bench = Bench()
    verdicts = [bench.judge(asked, bench.answers).security for asked in ASKED]
    assert verdicts == [SECURE] * 9 + [INSECURE, SECURE, INSECURE, INSECURE, SECURE, INSECURE]


@pytest.mark.parametrize("target", TARGETS)
def test_all_that_was_found(target: str) -> None:
    run = TARGETS[target]()
    for unit in corpus(target):
        run(unit)


@pytest.mark.parametrize(("target", "step"), [("message", 2), ("validator", 17), ("proofs", 11)])
def test_honest_answers_damaged(target: str, step: int) -> None:
    run = TARGETS[target]()
    for honest in corpus(target)[: len(unpack(RECORDED.read_bytes()) if target == "message" else ASKED)]:
        for data in damaged(honest, step):
            run(data)


def test_a_judgement_spends_no_more_than_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, spent = Bench(), []

    def noted() -> Budget:
        spent.append(Budget())
        return spent[-1]

    monkeypatch.setattr(fuzzed, "Budget", noted)
    for unit in corpus("validator"):
        bench.play(unit)
    assert len(spent) > 50
    assert all(one.spent[cost] <= limit for one in spent for cost, limit in DEFAULT_LIMITS.items())
