"""Other people's clients of DNS over TLS and HTTPS ask the proxy, as it is run."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import ssl
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest
from programs import Running, execute, free_ports, need, wait_until
from real_peers import Proxy

from dohproxy.lab.certificates import Authority

NAME = "proxy.test"
PAY = "spiffe://prod.example/ns/pay/sa/web"
CONFIG = """
[listen]
udp = ["127.0.0.1:PORT"]
tcp = ["127.0.0.1:PORT"]
dot = ["127.0.0.1:{dot}"]
doh = ["127.0.0.1:{doh}"]
doh_json = true
proxy_protocol = ["127.0.0.2/32"]
[tls]
certificate = "server.pem"
key = "server.key"
client_auth = "{auth}"
client_ca_file = "clients.pem"
[[tls.certificates]]
certificate = "other.pem"
key = "other.key"
[dnssec]
mode = "off"
[local]
records = ["www.test. 300 IN A 192.0.2.7", "www.test. 300 IN AAAA 2001:db8::7", {many}]
[[policy.group]]
name = "payments"
spiffe = ["spiffe://prod.example/ns/pay/*"]
deny = ["denied.test"]
deny_action = "refused"
[[policy.group]]
name = "behind a balancer"
clients = ["127.0.0.3/32"]
deny = ["elsewhere.test"]
deny_action = "refused"
[[upstream]]
url = "tls://127.0.0.1:1"
tls_name = "nobody.test"
"""
LARGE = ", ".join(f'"large.test. 300 IN TXT \\"{n:03}{"x" * 200}\\""' for n in range(100))


@dataclass
class Place:
    """The proxy, its encrypted ports, and the files beside it."""

    proxy: Proxy
    directory: Path
    dot: int
    doh: int
    authority: Authority

    def file(self, name: str) -> str:
        return str(self.directory / name)

    @property
    def ca(self) -> str:
        return self.file("ca.pem")

    def says(self, text: str) -> bool:
        return text in self.proxy.log.read_text()


def serve(directory: Path, auth: str) -> Iterator[Place]:
    authority = Authority("servers")
    authority.write(directory)
    authority.server(NAME, "127.0.0.1").write(directory, "server")
    authority.server("other.test").write(directory, "other")
    clients, strangers = Authority("clients"), Authority("strangers")
    clients.write(directory, "clients")
    clients.client("web", PAY).write(directory, "pay")
    clients.client("two", PAY, PAY + "2").write(directory, "two")
    strangers.client("web", PAY).write(directory, "stranger")
    dot, doh = free_ports(2)
    config = CONFIG.format(dot=dot, doh=doh, auth=auth, many=LARGE)
    with Proxy(directory, config) as running:
        yield Place(running, directory, dot, doh, authority)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from serve(tmp_path_factory.mktemp("encrypted"), "none")


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One that asks clients for certificates."""
    yield from serve(tmp_path_factory.mktemp("asking"), "request")


@pytest.fixture(scope="module")
def requiring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One that is for those alone who have them."""
    yield from serve(tmp_path_factory.mktemp("requiring"), "require")


# kdig


def kdig(place: Place, how: str, *arguments: str) -> str:
    need("kdig")
    port = place.dot if how == "+tls" else place.doh
    return execute(
        "kdig", "@127.0.0.1", "-p", str(port), how, f"+tls-ca={place.ca}", f"+tls-hostname={NAME}", "+retry=0", *arguments
    )


@pytest.mark.parametrize("how", ["+tls", "+https"])
def test_kdig(place: Place, how: str) -> None:
    said = kdig(place, how, "www.test", "+padding")
    assert "status: NOERROR" in said and "192.0.2.7" in said and "TLS1.3" in said
    assert "Received 468 B" in said and "PADDING" in said


@pytest.mark.parametrize("how", ["+tls", "+https"])
def test_kdig_gets_what_is_large(place: Place, how: str) -> None:
    said = kdig(place, how, "large.test", "TXT")
    assert "status: NOERROR" in said and "ANSWER: 100" in said


def test_kdig_by_get(place: Place) -> None:
    said = kdig(place, "+https", "+https-get", "www.test")
    assert "HTTP/2-GET" in said and "status: 200" in said and "192.0.2.7" in said


def test_kdig_keeps_a_connection(place: Place) -> None:
    said = kdig(place, "+tls", "+keepopen", "www.test", "A", "www.test", "AAAA", "other.test", "MX")
    assert said.count("TLS session") == 3 and said.count(";; ->>HEADER<<-") == 3


def test_kdig_without_the_option_gets_no_padding(place: Place) -> None:
    assert "PADDING" not in kdig(place, "+tls", "+nopadding", "+edns", "www.test")


def test_kdig_does_not_trust_a_name_that_is_not_ours(place: Place) -> None:
    need("kdig")
    command = [
        "kdig",
        "@127.0.0.1",
        "-p",
        str(place.dot),
        "+tls",
        f"+tls-ca={place.ca}",
        "+tls-hostname=wrong.test",
        "www.test",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0 and "192.0.2.7" not in done.stdout


# dig


@pytest.mark.parametrize(("how", "told"), [("+tcp", True), ("+tls", True), ("+https", False), ("+notcp", False)])
def test_dig_is_told_how_long_it_may_be_idle_where_that_is_a_matter_of_dns(place: Place, how: str, told: bool) -> None:
    need("dig")
    port = {"+tls": place.dot, "+https": place.doh}.get(how, place.proxy.port)
    for _ in range(2):  # the second is replayed
        said = execute("dig", "@127.0.0.1", "-p", str(port), how, "+keepalive", "+retry=0", "www.test")
        assert "192.0.2.7" in said
        assert [line for line in said.splitlines() if "KEEPALIVE" in line] == ["; TCP KEEPALIVE: 10.0 secs"] * told


# curl

DNS = urlsafe_b64encode(dns.message.make_query("www.test", "A", id=0).to_wire()).rstrip(b"=").decode()


def curl(place: Place, *arguments: str) -> str:
    need("curl")
    here = ["--cacert", place.ca, "--resolve", f"{NAME}:{place.doh}:127.0.0.1", "-sS", "--max-time", "20"]
    return execute("curl", *here, *arguments)


def url(place: Place, rest: str) -> str:
    return f"https://{NAME}:{place.doh}{rest}"


@pytest.mark.parametrize(("version", "told"), [("--http2", "2"), ("--http1.1", "1.1")])
def test_curl(place: Place, version: str, told: str) -> None:
    answer = place.directory / "answer"
    head = curl(place, version, "-D", "-", "-o", str(answer), url(place, f"/dns-query?dns={DNS}"))
    assert head.startswith(f"HTTP/{told} 200")
    assert "content-type: application/dns-message" in head and re.search("cache-control: max-age=(300|29.)", head)
    assert dns.message.from_wire(answer.read_bytes()).answer[0][0].to_text() == "192.0.2.7"


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_curl_posts_many_on_one_connection(place: Place, version: str) -> None:
    query, answer = place.directory / "query", place.directory / "answer"
    query.write_bytes(dns.message.make_query("www.test", "AAAA").to_wire())
    posting = [version, "--data-binary", f"@{query}", "-H", "content-type: application/dns-message"]
    told = ["-w", "%{http_code} %{num_connects}\n"]
    said = curl(place, *posting, *told, *["-o", str(answer), url(place, "/dns-query")] * 3)
    assert said == "200 1\n200 0\n200 0\n"
    assert dns.message.from_wire(answer.read_bytes()).answer[0][0].to_text() == "2001:db8::7"


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
@pytest.mark.parametrize(
    ("status", "arguments", "rest"),
    [
        ("404", (), "/"),
        ("400", (), "/dns-query"),
        ("405", ("-X", "DELETE"), "/dns-query"),
        ("415", ("-d", "x=y"), "/dns-query"),
        ("414", (), "/dns-query?dns=" + "A" * 9000),
        ("413", ("-H", "content-type: application/dns-message", "--data-binary", "@large"), "/dns-query"),
        ("200", ("-I",), f"/dns-query?dns={DNS}"),
    ],
)
def test_what_curl_is_told(place: Place, version: str, status: str, arguments: tuple[str, ...], rest: str) -> None:
    large = place.directory / "large"
    large.write_bytes(bytes(100_000))
    given = [argument.replace("@large", f"@{large}") for argument in arguments]
    assert curl(place, version, *given, "-o", "/dev/null", "-w", "%{http_code}", url(place, rest)) == status


def test_curl_gets_json(place: Place) -> None:
    told = json.loads(curl(place, url(place, "/dns-query?name=www.test&type=AAAA")))
    assert told["Status"] == 0 and told["Answer"][0]["data"] == "2001:db8::7"


def test_curl_finds_its_way_by_us(place: Place) -> None:
    """curl asks us for the address of a name, and would go there."""
    need("curl")
    command = ["curl", "-sv", "--doh-url", f"https://127.0.0.1:{place.doh}/dns-query", "--cacert", place.ca, "--max-time", "2"]
    done = subprocess.run([*command, "http://www.test/"], capture_output=True, text=True, timeout=30, check=False)
    assert "192.0.2.7" in done.stderr


# openssl: certificates and alerts


def s_client(place: Place, *arguments: str, port: int = 0) -> str:
    need("openssl")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port or place.dot}", "-CAfile", place.ca, *arguments]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=20, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def test_openssl_sees_our_certificate_and_protocol(place: Place) -> None:
    said = s_client(place, "-verify_hostname", NAME, "-verify_return_error", "-alpn", "dot")
    assert "Verify return code: 0 (ok)" in said and "ALPN protocol: dot" in said and "TLSv1.3" in said
    assert "ALPN protocol: h2" in s_client(place, "-alpn", "h2,http/1.1", port=place.doh)
    assert "subject=CN = other.test" in s_client(place, "-servername", "other.test")


def test_openssl_is_refused_with_tls_1_2(place: Place) -> None:
    assert "alert protocol version" in s_client(place, "-tls1_2")


def test_openssl_resumes_a_session(asking: Place) -> None:
    need("openssl")
    session = asking.file("session")
    own = ["-cert", asking.file("pay.pem"), "-key", asking.file("pay.key")]
    query = dns.message.make_query("denied.test", "A").to_wire()
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{asking.dot}", "-CAfile", asking.ca, "-quiet", *own]
    for kept in (["-sess_out", session], ["-sess_in", session]):
        talking = subprocess.Popen([*command, *kept], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert talking.stdin is not None and talking.stdout is not None
        with talking:
            talking.stdin.write(len(query).to_bytes(2) + query)
            talking.stdin.flush()
            reply = talking.stdout.read(int.from_bytes(talking.stdout.read(2)))
            assert dns.message.from_wire(reply).rcode() == dns.rcode.REFUSED  # by what holds for this identity alone
            talking.terminate()
    asking.proxy.send(signal.SIGUSR1)
    wait_until(lambda: re.search(r"tls_resumed=[1-9]", asking.proxy.log.read_text()) is not None, what="a resumption")


@pytest.mark.parametrize(("own", "alert"), [("stranger", "alert unknown ca"), ("two", "alert")])
def test_openssl_is_refused_with_an_alert(asking: Place, own: str, alert: str) -> None:
    for port in (asking.dot, asking.doh):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", asking.ca]
        command += ["-cert", asking.file(f"{own}.pem"), "-key", asking.file(f"{own}.key"), "-ign_eof"]
        need("openssl")
        done = subprocess.run(command, input=b"", capture_output=True, timeout=20, check=False)
        assert alert in done.stderr.decode()


def test_openssl_without_a_certificate_is_told_that_one_is_required(requiring: Place) -> None:
    need("openssl")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{requiring.dot}", "-CAfile", requiring.ca, "-ign_eof"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=20, check=False)
    assert "alert certificate required" in done.stderr.decode()


@pytest.mark.parametrize("how", ["+tls", "+https"])
def test_kdig_with_a_certificate_is_somebody(asking: Place, requiring: Place, how: str) -> None:
    for place in (asking, requiring):
        own = (f"+tls-certfile={place.file('pay.pem')}", f"+tls-keyfile={place.file('pay.key')}")
        assert "status: REFUSED" in kdig(place, how, *own, "denied.test")
        assert "192.0.2.7" in kdig(place, how, *own, "www.test")
    assert "status: REFUSED" not in kdig(asking, how, "denied.test")


# Certificates that change


def test_a_certificate_is_replaced_while_running(tmp_path: Path) -> None:
    serving = serve(tmp_path, "none")
    place = next(serving)
    try:
        assert "DNS:new.test" not in shown(place)
        place.authority.server(NAME, "127.0.0.1", "new.test").write(tmp_path, "server")
        assert "DNS:new.test" in shown(place)
        (tmp_path / "server.pem").write_text("half a certificate")
        assert "DNS:new.test" in shown(place) and place.says("stays in use")
    finally:
        with pytest.raises(StopIteration):
            next(serving)


def shown(place: Place) -> str:
    need("openssl")
    certificate = re.search(r"-----BEGIN.*?END CERTIFICATE-----\n", s_client(place), re.DOTALL)
    assert certificate is not None
    file = place.directory / "shown.pem"
    file.write_text(certificate[0])
    return execute("openssl", "x509", "-in", file, "-noout", "-ext", "subjectAltName")


# dnspython


def test_dnspython(place: Place) -> None:
    query = dns.message.make_query("www.test", "A")
    answer = dns.query.tls(query, "127.0.0.1", 10, place.dot, server_hostname=NAME, verify=place.ca)
    assert answer.answer[0][0].to_text() == "192.0.2.7"


def test_python_asks_many_at_once(place: Place) -> None:
    """A thousand questions on each of ten connections, all answered, each with its own ID."""

    async def ask() -> int:
        context = ssl.create_default_context(cafile=place.ca)
        reader, writer = await asyncio.open_connection("127.0.0.1", place.dot, ssl=context, server_hostname=NAME)
        query = dns.message.make_query("www.test", "A").to_wire()[2:]
        writer.write(b"".join((len(query) + 2).to_bytes(2) + number.to_bytes(2) + query for number in range(1000)))
        found = set()
        for _ in range(1000):
            reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            found.add(reply[:2])
        writer.close()
        await writer.wait_closed()
        return len(found)

    async def ask_all() -> list[int]:
        return await asyncio.gather(*[ask() for _ in range(10)])

    assert asyncio.run(ask_all()) == [1000] * 10


# Forwarders in front of us


def test_unbound_forwards_to_us(place: Place, tmp_path: Path) -> None:
    need("unbound")
    (port,) = free_ports(1)
    config = tmp_path / "unbound.conf"
    config.write_text(f"""\
server:
  interface: 127.0.0.1@{port}
  username: ""
  chroot: ""
  directory: "{tmp_path}"
  pidfile: "{tmp_path}/pid"
  use-syslog: no
  module-config: "iterator"
  do-not-query-localhost: no
  tls-cert-bundle: "{place.ca}"
  local-zone: "test." nodefault
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-tls-upstream: yes
  forward-addr: 127.0.0.1@{place.dot}#{NAME}
""")
    with Running(["unbound", "-d", "-c", config], tmp_path / "unbound.log", [port]):
        answer = dns.query.udp(dns.message.make_query("www.test", "A"), "127.0.0.1", 10, port)
        assert answer.answer[0][0].to_text() == "192.0.2.7"
        answer = dns.query.tcp(dns.message.make_query("large.test", "TXT"), "127.0.0.1", 10, port)
        assert len(answer.answer[0]) == 100


@pytest.mark.parametrize("how", ["dot", "doh"])
def test_dnsdist_forwards_to_us(place: Place, tmp_path: Path, how: str) -> None:
    need("dnsdist")
    (port,) = free_ports(1)
    path = ', dohPath="/dns-query"' if how == "doh" else ""
    config = tmp_path / "dnsdist.conf"
    config.write_text(f"""\
setLocal("127.0.0.1:{port}")
newServer({{address="127.0.0.1:{getattr(place, how)}", tls="openssl", subjectName="{NAME}", caStore="{place.ca}",
  validateCertificates=true, checkName="www.test."{path}}})
""")
    command = ["dnsdist", "--supervised", "--disable-syslog", "-C", config]
    with Running(command, tmp_path / "dnsdist.log", [port]):
        for kind, address in (("A", "192.0.2.7"), ("AAAA", "2001:db8::7")):
            answer = dns.query.udp(dns.message.make_query("www.test", kind), "127.0.0.1", 10, port)
            assert answer.answer[0][0].to_text() == address
        answer = dns.query.tcp(dns.message.make_query("large.test", "TXT"), "127.0.0.1", 10, port)
        assert len(answer.answer[0]) == 100


# A load balancer in front of us


HAPROXY = """\
defaults
  mode tcp
  timeout connect 5s
  timeout client 10s
  timeout server 10s
listen dot
  bind 127.0.0.1:{dot}
  server us 127.0.0.1:{their_dot} send-proxy-v2 source 127.0.0.2
listen doh
  bind 127.0.0.1:{doh}
  server us 127.0.0.1:{their_doh} send-proxy-v2 source 127.0.0.2
listen tcp
  bind 127.0.0.1:{tcp}
  server us 127.0.0.1:{their_tcp} send-proxy-v2 source 127.0.0.2
"""


def test_haproxy_tells_whose_connections_they_are(place: Place, tmp_path: Path) -> None:
    need("haproxy", "kdig")
    dot, doh, tcp = free_ports(3)
    config = tmp_path / "haproxy.cfg"
    theirs = {"their_dot": place.dot, "their_doh": place.doh, "their_tcp": place.proxy.port}
    config.write_text(HAPROXY.format(dot=dot, doh=doh, tcp=tcp, **theirs))
    with Running(["haproxy", "-db", "-f", config], tmp_path / "haproxy.log", [dot, doh, tcp]):
        for port, *how in ((dot, "+tls"), (doh, "+https"), (tcp, "+tcp")):
            tls = [f"+tls-ca={place.ca}", f"+tls-hostname={NAME}"] if how != ["+tcp"] else []
            asking = ["kdig", "@127.0.0.1", "-p", str(port), *how, *tls, "+retry=0"]
            assert "status: REFUSED" in execute(*asking, "-b", "127.0.0.3", "elsewhere.test")
            assert "192.0.2.7" in execute(*asking, "-b", "127.0.0.3", "www.test")
            assert "192.0.2.7" in execute(*asking, "www.test")


def test_a_balancer_that_tells_nothing_is_not_served(place: Place) -> None:
    need("kdig")
    for port, how in ((place.dot, "+tls"), (place.doh, "+https"), (place.proxy.port, "+tcp")):
        command = ["kdig", "@127.0.0.1", "-p", str(port), how, "-b", "127.0.0.2", "+retry=0", "+timeout=8", "www.test"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert "192.0.2.7" not in done.stdout


# Load


@pytest.mark.parametrize("version", ["h2", "http/1.1"])
def test_h2load(place: Place, version: str) -> None:
    need("h2load")
    said = execute(
        "h2load",
        "-n",
        "5000",
        "-c",
        "8",
        "-m",
        "50",
        f"--npn-list={version}",
        f"https://127.0.0.1:{place.doh}/dns-query?dns={DNS}",
    )
    assert "5000 succeeded, 0 failed, 0 errored" in said and "status codes: 5000 2xx" in said
