import h11
import pytest

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.doh_request import MOST_HEADERS, Response
from dohproxy.protocol.http1_server import MOST_AHEAD, Http1Server

GET = b"GET /dns-query?dns=AAAA HTTP/1.1\r\nHost: proxy.test\r\n\r\n"


def post(body, *more):
    head = [b"POST /dns-query HTTP/1.1", b"Host: proxy.test", b"Content-Type: application/dns-message", *more]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


def respond(server, request, body=b"answer", status=200):
    response = Response(status, body)
    server.respond(request.stream, response.fields, b"" if request.head.method == b"HEAD" else body)


def heard(octets, method="GET"):
    """Status, headers and body of the only response in these octets."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(octets)
    body = b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
    return response.status_code, dict(response.headers), body


def test_requests_one_after_the_other():
    server = Http1Server()
    for n in range(5):
        [request] = server.receive_untrusted(GET if n % 2 else post(b"query"))
        assert request.head.method == (b"GET" if n % 2 else b"POST") and request.body == (b"" if n % 2 else b"query")
        assert server.open == 1
        respond(server, request)
        status, headers, body = heard(server.take())
        assert (status, body, headers[b"content-length"]) == (200, b"answer", b"6")
        assert not server.closing and server.open == 0


def test_requests_octet_by_octet():
    server = Http1Server()
    octets = post(b"query")
    found = [request for n in range(len(octets)) for request in server.receive_untrusted(octets[n : n + 1])]
    assert [(request.head.target, request.head.media, request.body) for request in found] == [
        (b"/dns-query", b"application/dns-message", b"query")
    ]


def test_requests_that_come_ahead_wait_for_their_turn():
    server = Http1Server()
    [first] = server.receive_untrusted(GET + post(b"two") + GET)
    assert server.ready() == []
    respond(server, first, b"1")
    [second] = server.ready()
    assert second.body == b"two"
    assert server.receive_untrusted(GET) == []
    respond(server, second, b"2")
    [third] = server.ready()
    respond(server, third, b"3")
    [fourth] = server.ready()
    respond(server, fourth, b"4")
    assert server.ready() == []
    assert server.take().count(b"HTTP/1.1 200 ") == 4


def test_answers_come_in_order():
    server = Http1Server()
    requests = server.receive_untrusted(GET * 3)
    while requests:
        for request in requests:
            respond(server, request, b"answer %d" % request.stream)
        requests = server.ready()
    octets = server.take()
    assert [octets.index(b"answer %d" % n) for n in range(3)] == sorted(octets.index(b"answer %d" % n) for n in range(3))


def test_what_comes_ahead_is_bounded():
    server = Http1Server()
    server.receive_untrusted(GET)
    with pytest.raises(MalformedMessage):
        for _ in range(2 * MOST_AHEAD // len(GET)):
            server.receive_untrusted(GET)


def test_a_head_has_no_body():
    server = Http1Server()
    [request] = server.receive_untrusted(GET.replace(b"GET", b"HEAD"))
    respond(server, request)
    status, headers, body = heard(server.take(), "HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"6", b"")
    assert not server.closing


def test_chunks():
    server = Http1Server()
    head = post(b"").partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    [request] = server.receive_untrusted(head + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")
    assert request.body == b"abcde" and request.head.length is None


def test_a_client_that_asks_whether_to_go_on():
    server = Http1Server()
    octets = post(b"query", b"Expect: 100-continue")
    assert server.receive_untrusted(octets[:-5]) == []
    assert server.take().startswith(b"HTTP/1.1 100 ")
    assert len(server.receive_untrusted(b"query")) == 1


def test_a_target_with_its_host():
    [request] = Http1Server().receive_untrusted(GET.replace(b"/dns", b"https://proxy.test/dns", 1))
    assert request.head.target == b"/dns-query?dns=AAAA"


@pytest.mark.parametrize("octets", [GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), GET.replace(b"1.1", b"1.0")])
def test_clients_that_ask_once(octets):
    server = Http1Server()
    [request] = server.receive_untrusted(octets)
    respond(server, request)
    assert heard(server.take())[2] == b"answer" and server.closing


def test_leaving():
    server = Http1Server()
    [request] = server.receive_untrusted(GET + GET)
    server.leave()
    respond(server, request)
    assert heard(server.take())[1][b"connection"] == b"close"
    assert server.ready() == [] and server.closing


CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("status", "octets"),
    [
        (400, post(b"0\r\n\r\n", CHUNKED)),
        (400, post(b"query", b"Content-Length: 4")),
        (400, post(b"query", b"Content-Length: 5", b"Content-Length: 6")),
        (400, GET.replace(b"Host: proxy.test", b"X: y")),
        (400, GET.replace(b"Host", b"Host : a\r\nHost")),
        (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\0\x01\0\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\nX\0: b\r\n\r\n"),
        (501, post(b"0\r\n\r\n").replace(b"Content-Length: 5", b"Transfer-Encoding: gzip, chunked")),
        (431, GET[:-2] + b"X: " + b"x" * (MOST_HEADERS + 1)),
        (413, post(bytes(65536))),
    ],
)
def test_what_ends_a_connection(status, octets):
    server = Http1Server()
    with pytest.raises(MalformedMessage):
        for n in range(0, len(octets), 1000):
            server.receive_untrusted(octets[n : n + 1000])
    told, headers, _ = heard(server.take())
    assert told == status and headers[b"connection"] == b"close" and server.closing


def test_chunks_in_all_are_bounded():
    server = Http1Server()
    server.receive_untrusted(post(b"").partition(b"Content-Length")[0] + CHUNKED + b"\r\n\r\n")
    with pytest.raises(MalformedMessage):
        for _ in range(100):
            server.receive_untrusted(b"400\r\n" + bytes(1024) + b"\r\n")
    assert heard(server.take())[0] == 413
