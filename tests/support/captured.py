"""Messages of other people's programs, by program, as `capture.py` captured them."""

from __future__ import annotations

from pathlib import Path

CAPTURED = Path(__file__).with_name("captured.txt")


def by(*programs: str) -> dict[str, list[bytes]]:
    """What each of these programs wrote."""
    lines = [line.split() for line in CAPTURED.read_text().splitlines()]
    return {program: [bytes.fromhex(octets) for name, octets in lines if name == program] for program in programs}


QUERIES = by("dig", "kdig", "delv")
ANSWERS = by("nsd", "unbound")
