"""Evidence records checked, told to a person in lines or to a machine as a record. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from dohproxy.cli.render import columns
from dohproxy.config.settings import Anchor
from dohproxy.dnssec.evidence import Evidence, EvidenceError, Lost, read_line
from dohproxy.dnssec.replay import replay
from dohproxy.dnssec.validate import Judgement
from dohproxy.model import Ede
from dohproxy.wire.names import to_text
from dohproxy.wire.text import ede_to_text, type_to_text

HOLDS, FAILS, UNREADABLE, LOST = "holds", "does not hold", "cannot be read", "lost"


class Checked(Struct, frozen=True):
    """One line of a file of evidence, and what is to be said of it."""

    line: int
    outcome: str
    """HOLDS | FAILS | UNREADABLE | LOST"""
    evidence: Evidence | None = None
    judgement: Judgement | None = None
    """What the same material is judged as now."""
    notes: tuple[str, ...] = ()
    lost: int = 0


def check(line: int, text: bytes, anchors: Sequence[Anchor]) -> Checked:
    """Judge the record in this text again, with nothing but these anchors."""
    try:
        found = read_line(text)
    except EvidenceError as error:
        return Checked(line, UNREADABLE, notes=(str(error),))
    if isinstance(found, Lost):
        return Checked(line, LOST, notes=(f"{found.number} records could not be written here",), lost=found.number)
    judgement = replay(found, anchors)
    same = (judgement.security, judgement.ede) == (found.security, found.ede)
    return Checked(line, HOLDS if same else FAILS, found, judgement, tuple(_notes(found, judgement, anchors, same)))


def _notes(evidence: Evidence, judgement: Judgement, anchors: Sequence[Anchor], same: bool) -> Iterable[str]:
    if not same:
        yield f"judged now: {judgement.security.value}" + "".join(f", {ede_to_text(ede)}" for ede in judgement.ede)
        yield f"the record: {evidence.security.value}" + "".join(f", {ede_to_text(ede)}" for ede in evidence.ede)
        for zone in sorted({anchor.zone for anchor in evidence.anchors} - {anchor.zone for anchor in anchors}):
            yield f"it was judged by an anchor of {to_text(zone)}, which is not among those given"
    for negative in evidence.negative:
        yield f"under a negative trust anchor at {to_text(negative.name)}, as the record has it"


def status_of(checked: Iterable[Checked]) -> int:
    """The exit status: 1 if a record does not hold, else 2 if one cannot be read."""
    outcomes = {one.outcome for one in checked}
    return 1 if FAILS in outcomes else 2 if UNREADABLE in outcomes else 0


def lines_of(checked: Sequence[Checked]) -> list[str]:
    """For a person: a row for each line, what is to be said of it below, and the sum."""
    rows = columns([("line", "time", "question", "verdict", ""), *map(_row, checked)])
    lines = rows[:1]
    for row, one in zip(rows[1:], checked, strict=True):
        lines += [row, *(f"    {note}" for note in one.notes)]
    return [*lines, "", _summary(checked)] if checked else ["no records"]


def _row(checked: Checked) -> tuple[str, ...]:
    evidence = checked.evidence
    if evidence is None:
        return str(checked.line), "-", "-", "-", checked.outcome
    question = f"{to_text(evidence.question.qname)} {type_to_text(evidence.question.qtype)}"
    return str(checked.line), evidence.circumstances.time or "-", question, evidence.security.value, checked.outcome


def _summary(checked: Sequence[Checked]) -> str:
    counts = [(sum(one.outcome == outcome for one in checked), outcome) for outcome in (HOLDS, FAILS, UNREADABLE)]
    told = [f"{number} {outcome if number == 1 else _PLURAL[outcome]}" for number, outcome in counts if number]
    lost = sum(one.lost for one in checked)
    return ", ".join([*told, *([f"{lost} lost"] if lost else [])])


_PLURAL = {HOLDS: "hold", FAILS: "do not hold", UNREADABLE: "cannot be read"}


def record_of(checked: Checked) -> dict[str, Any]:
    """For machines: the same facts, ready to be JSON."""
    told: dict[str, Any] = {"line": checked.line, "outcome": checked.outcome, "notes": list(checked.notes)}
    evidence, judgement = checked.evidence, checked.judgement
    if evidence is None or judgement is None:
        return told | ({"lost": checked.lost} if checked.lost else {})
    return told | {
        "time": evidence.circumstances.time,
        "name": to_text(evidence.question.qname),
        "type": type_to_text(evidence.question.qtype),
        "recorded": _verdict(evidence.security.value, evidence.ede),
        "judged": _verdict(judgement.security.value, judgement.ede),
    }


def _verdict(security: str, edes: Iterable[Ede]) -> dict[str, Any]:
    return {"verdict": security, "ede": [{"code": ede.code, "text": ede.text} for ede in edes]}
