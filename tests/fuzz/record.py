"""Records the answers that the fuzzers start from; what they found with others is then worth nothing.

PYTHONPATH=tests/support python tests/fuzz/record.py
"""

import struct

from fuzzed import ASKED, RECORDED, encode, pack
from memory_tree import SigningKey, Tree, Zone, bitmap, name, signed

from dohproxy.dnssec.nsec3 import hash_name
from dohproxy.model import Answer, Question, RRset
from dohproxy.wire import constants as c
from dohproxy.wire import names

ADDRESS = bytes((192, 0, 2, 1))
HASHED = name("hashed.com")


def tree() -> Tree:
    root, com, example = (
        Zone(".", SigningKey(13, seed=1)),
        Zone("com", SigningKey(15, seed=2)),
        Zone("example.com", SigningKey(13, seed=3)),
    )
    example.add("www.example.com", c.A, ADDRESS).add("deep.a.b.example.com", c.A, ADDRESS)
    example.add("*.wild.example.com", c.A, ADDRESS).add("gone.example.com", c.CNAME, name("no.example.com"))
    example.add("old.example.com", c.DNAME, name("example.com"))
    insecure = Zone("insecure.com", None).add("www.insecure.com", c.A, ADDRESS)
    hashed = (
        Zone("hashed.com", SigningKey(13, seed=4)).add("www.hashed.com", c.A, ADDRESS).add("*.wild.hashed.com", c.A, ADDRESS)
    )
    unsigned = Zone("unsigned.hashed.com", None).add("www.unsigned.hashed.com", c.A, ADDRESS)
    return Tree(root, com, example, insecure, hashed, unsigned)


def nsec3s(zone: Zone) -> tuple[RRset, ...]:
    """The zone's NSEC3 records, with opt-out."""
    owners = {above for owner, _ in zone.data for above in names.suffixes(owner) if names.is_subdomain(above, zone.origin)}
    kept = sorted((hash_name(owner, b"\xab", 1), owner) for owner in owners if owner not in zone.cuts)
    made = []
    for (digest, owner), (after, _) in zip(kept, kept[1:] + kept[:1], strict=True):
        types = [rdtype for have, rdtype in zone.data if have == owner and rdtype != c.NSEC]
        label = "".join(
            "0123456789abcdefghijklmnopqrstuv"[int.from_bytes(digest) >> shift & 31] for shift in range(155, -1, -5)
        )
        rdata = struct.pack("!BBHB", 1, 1, 1, 1) + b"\xab\x14" + after + bitmap([*types, c.RRSIG] if types else [])
        made.append(signed(RRset(name(f"{label}.hashed.com"), c.NSEC3, 3600, (rdata,)), zone.key, zone.origin))
    return tuple(made)


def main() -> None:
    made = tree()
    denials = nsec3s(made.zones[HASHED])
    answers: dict[Question, Answer] = {}

    def fetch(question: Question) -> Answer:
        answer = made.answer(question)
        if names.is_subdomain(question.qname, HASHED) and any(r.rdtype == c.NSEC for r in answer.authority):
            rest = tuple(rrset for rrset in answer.authority if rrset.rdtype != c.NSEC)
            answer = Answer(answer.rcode, answer.answer, (*rest, *denials))
        return answers.setdefault(question, answer)

    made.fetch = fetch  # type: ignore[method-assign]
    for asked in ASKED:
        made.keys.clear()
        print(names.to_text(asked.qname), asked.qtype, made.judge(names.to_text(asked.qname), asked.qtype).security)
    RECORDED.write_bytes(pack(encode(question, answer) for question, answer in answers.items()))


if __name__ == "__main__":
    main()
