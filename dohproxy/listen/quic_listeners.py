"""The listeners by QUIC of a process: DNS over QUIC, and DNS over HTTP/3. Imported where there are any, for aioquic's sake."""

from __future__ import annotations

from dohproxy.listen.credentials import Credentials
from dohproxy.listen.doh3 import speak_doh3
from dohproxy.listen.doq import DoqSession
from dohproxy.listen.intake import Intake
from dohproxy.listen.quic import QuicListener
from dohproxy.listen.quic_reception import QuicReception
from dohproxy.listen.quic_table import QuicTable
from dohproxy.listen.sockets import Sockets
from dohproxy.model import Transport
from dohproxy.protocol import doq, http3_server
from dohproxy.protocol.doh_request import Site


def quic_listeners(sockets: Sockets, intake: Intake, credentials: Credentials, site: Site) -> list[QuicListener]:
    """One for each socket. All share the limits; sessions are resumed at the listener that began them."""
    table = QuicTable(intake.limits, intake.counters)

    def reception() -> QuicReception:
        return QuicReception(credentials)

    speak = speak_doh3(site)
    made = [QuicListener(sock, intake, table, reception(), Transport.DOQ, doq.ALPN, DoqSession) for sock in sockets.doq]
    made += [QuicListener(sock, intake, table, reception(), Transport.DOH3, http3_server.ALPN, speak) for sock in sockets.doh3]
    return made
