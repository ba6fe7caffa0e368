"""Scenes of a resolver's life, each with a proxy of its own behind an upstream that answers as the scene says.

What is judged is what a client sees: RCODE, AD, the records, the extended error, and what the upstream was asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import dns.message
import pytest
import trio
from dns.message import Message
from dns_peers import Certificates, Messages, Peer, framed
from fuzzed import encode
from memory_tree import WALL, Tree, name, usual_tree
from msgspec.structs import replace
from real_peers import LISTEN, Proxy, ask, ede_codes, facts

from dohproxy.model import Answer, Question, RRset
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text

Change = Callable[[Answer], Answer]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Scene:
    """A proxy and its upstreams, which answer from `tree`; `asked` has the questions of all upstreams, as text."""

    def __init__(self, tree: Tree, directory: Path, certificates: Certificates) -> None:
        self.tree, self._directory, self._certificates = tree, directory, certificates
        self.asked: list[tuple[str, str]] = []
        self.peers: list[Peer] = []
        self.proxy: Proxy

    def manner(self, change: dict[tuple[str, int], Change]) -> Callable[[Peer, trio.abc.Stream], object]:
        """Answers honestly, but for what is asked by these names and types."""
        edits = {Question(name(qname), qtype): edit for (qname, qtype), edit in change.items()}

        async def serve(_peer: Peer, stream: trio.abc.Stream) -> None:
            messages = Messages(stream)
            while True:
                query = dns.message.from_wire(await messages.next())
                (asked,) = query.question
                question = Question(from_text(asked.name.to_text().lower()), int(asked.rdtype))
                self.asked.append((asked.name.to_text(), asked.rdtype.name))
                answer = edits.get(question, lambda answer: answer)(self.tree.answer(question))
                await stream.send_all(framed(query.id.to_bytes(2, "big") + encode(question, answer)[2:]))

        return serve

    def config(self, more: str) -> str:
        when = datetime.fromtimestamp(WALL, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        (anchor,) = self.tree.anchors
        tag, algorithm, digest_type = int.from_bytes(anchor.rdata[:2], "big"), anchor.rdata[2], anchor.rdata[3]
        upstreams = "".join(
            f'[[upstream]]\nurl = "tls://127.0.0.1:{peer.port}"\ntls_name = "dns.test"\nca_file = "{self._certificates.ca}"\n'
            for peer in self.peers
        )
        ds = f". IN DS {tag} {algorithm} {digest_type} {anchor.rdata[4:].hex()}"
        return f'{LISTEN}{upstreams}[dnssec]\nroot_anchors = "none"\ntrust_anchors = ["{ds}"]\noverride_time = {when}\n{more}'

    async def ask(self, qname: str, rdtype: str = "A", **flags: bool) -> Message:
        return await trio.to_thread.run_sync(partial(ask, self.proxy.port, qname, rdtype, **flags))

    async def told(self, qname: str, rdtype: str = "A", **flags: bool) -> tuple[str, bool, int]:
        """RCODE, AD, and how many records there are in the answer section."""
        rcode, authentic, records = facts(await self.ask(qname, rdtype, **flags))
        return rcode, authentic, len(records)


@pytest.fixture
def scene(tmp_path: Path, certificates: Certificates):
    """Opens a scene: `async with scene({...}, ...)`, with what each upstream changes."""

    @asynccontextmanager
    async def opened(*changes: dict[tuple[str, int], Change], more: str = "") -> AsyncIterator[Scene]:
        it = Scene(usual_tree(), tmp_path, certificates)
        async with trio.open_nursery() as nursery:
            for change in changes or ({},):
                peer = Peer(it.manner(change))  # type: ignore[arg-type]
                it.peers.append(await peer.start(nursery, certificates.context(certificates.good)))
            it.proxy = Proxy(tmp_path, it.config(more))
            await trio.to_thread.run_sync(it.proxy.start)
            try:
                yield it
            finally:
                await trio.to_thread.run_sync(it.proxy.__exit__)
            nursery.cancel_scope.cancel()

    return opened


def stripped(answer: Answer) -> Answer:
    return replace(answer, answer=tuple(replace(rrset, signatures=()) for rrset in answer.answer))


def flipped(answer: Answer) -> Answer:
    return replace(answer, answer=tuple(replace(rrset, rdatas=(bytes(4),)) for rrset in answer.answer))


def flipped_end(answer: Answer) -> Answer:
    return replace(answer, answer=(answer.answer[0], *flipped(answer).answer[1:]))


def undenied(answer: Answer) -> Answer:
    return replace(answer, authority=tuple(rrset for rrset in answer.authority if rrset.rdtype != c.NSEC))


async def test_what_is_secure_is_told_to_those_who_ask(scene) -> None:
    async with scene() as it:
        message = await it.ask("www.example.com.", do=True)
        assert (facts(message)[:2], len(message.answer)) == (("NOERROR", True), 2)
        assert await it.told("www.example.com.") == ("NOERROR", True, 1)
        assert await it.told("far.example.com.") == ("NOERROR", True, 2)
        assert await it.told("x.wild.example.com.") == ("NOERROR", True, 1)
        assert await it.told("www.example.com.", "AAAA") == ("NOERROR", True, 0)
        assert await it.told("no.other.net.") == ("NXDOMAIN", True, 0)


async def test_an_unsigned_delegation_is_insecure_and_its_proof_is_secure(scene) -> None:
    async with scene() as it:
        assert await it.told("www.insecure.com.") == ("NOERROR", False, 1)
        assert await it.told("out.example.com.") == ("NOERROR", False, 2)
        assert await it.told("www.below.insecure.com.") == ("NOERROR", False, 1)
        assert await it.told("insecure.com.", "DS") == ("NOERROR", True, 0)


async def test_bogus_data_are_given_only_to_those_who_check_themselves(scene) -> None:
    """RFC 4035 3.2.2: in either order, for the two share no cache."""
    async with scene({("www.example.com", c.A): flipped, ("alias.example.com", c.A): flipped_end}) as it:
        assert await it.told("www.example.com.", cd=True) == ("NOERROR", False, 1)
        message = await it.ask("www.example.com.")
        assert (facts(message)[0], message.answer, ede_codes(message)[:1]) == ("SERVFAIL", [], [c.EDE_BOGUS])
        assert await it.told("www.example.com.", cd=True) == ("NOERROR", False, 1)
        assert (await it.told("alias.example.com."))[0] == "SERVFAIL"
        assert await it.told("alias.example.com.", "CNAME") == ("NOERROR", True, 1)


async def test_a_stripped_signature_is_asked_for_elsewhere(scene) -> None:
    async with scene({("www.example.com", c.A): stripped}, {}) as it:
        assert await it.told("www.example.com.") == ("NOERROR", True, 1)
        assert it.asked.count(("www.example.com.", "A")) == 2


async def test_a_stripped_chain_is_bogus_and_says_where(scene) -> None:
    async with scene({("example.com", c.DNSKEY): stripped}) as it:
        message = await it.ask("www.example.com.")
        assert (facts(message)[0], ede_codes(message)[:1]) == ("SERVFAIL", [c.EDE_RRSIGS_MISSING])
        assert await it.told("www.other.net.") == ("NOERROR", True, 1)


@pytest.mark.parametrize(
    ("qname", "rdtype"),
    [("no.example.com", "A"), ("www.example.com", "AAAA"), ("x.wild.example.com", "A"), ("x.wildalias.example.com", "A")],
)
async def test_absence_without_proof_is_bogus(scene, qname: str, rdtype: str) -> None:
    """RFC 4035 5.4; of a wildcard too, 5.3.4."""
    async with scene({(qname, {"A": c.A, "AAAA": c.AAAA}[rdtype]): undenied}) as it:
        message = await it.ask(qname + ".", rdtype)
        assert (facts(message)[0], ede_codes(message)[:1]) == ("SERVFAIL", [c.EDE_NSEC_MISSING])


async def test_an_unproven_missing_ds_is_no_insecurity(scene) -> None:
    async with scene({("insecure.com", c.DS): undenied}) as it:
        assert (await it.told("www.insecure.com."))[0] == "SERVFAIL"


async def test_a_proof_at_hand_answers_for_all_its_span(scene) -> None:
    """RFC 8198; with the proof for those who set DO."""
    async with scene() as it:
        await it.ask("no.other.net.")
        count = len(it.asked)
        message = await it.ask("nothing.other.net.", do=True)
        assert facts(message)[:2] == ("NXDOMAIN", True)
        assert {rrset.rdtype.name for rrset in message.authority} == {"SOA", "NSEC", "RRSIG"}
        assert ede_codes(message) == [c.EDE_SYNTHESIZED]
        assert len(it.asked) == count


async def test_a_negative_anchor_excepts_its_name_from_all_of_it(scene) -> None:
    """RFC 7646 2: from validation, and from proofs of the zone above."""
    anchor = 'negative_trust_anchors = ["nothing.other.net"]\n'
    there = {
        ("www.nothing.other.net", c.A): lambda _: Answer(
            c.NOERROR, (RRset(name("www.nothing.other.net"), c.A, 60, (bytes(4),)),)
        )
    }
    async with scene(there, more=anchor) as it:
        assert (await it.told("no.other.net."))[:2] == ("NXDOMAIN", True)
        assert await it.told("www.nothing.other.net.") == ("NOERROR", False, 1)


async def test_a_dname_redirects_whatever_is_below_it(scene) -> None:
    async with scene() as it:
        assert await it.told("www.old.example.com.") == ("NOERROR", True, 3)
        count = len(it.asked)
        assert await it.told("no.old.example.com.") == ("NXDOMAIN", True, 2)
        assert it.asked[count:] in ([("no.other.net.", "A")], [("no.other.net.", "A"), ("no.other.net.", "DS")])


async def test_an_rcode_is_believed_no_more_than_what_is_signed(scene) -> None:
    wrong = {("b.example.com", c.A): lambda answer: replace(answer, rcode=c.NXDOMAIN)}
    async with scene(wrong) as it:
        assert await it.told("b.example.com.") == ("NOERROR", True, 0)
