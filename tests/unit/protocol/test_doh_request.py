from base64 import urlsafe_b64encode

import dns.message
import msgspec
import pytest

from dohproxy.errors import MalformedMessage
from dohproxy.model import Answer, Question, RRset
from dohproxy.protocol.doh_request import JSON, MEDIA_TYPE, MOST_PATH, Head, Query, Response, Site, head_untrusted
from dohproxy.wire.names import from_text
from dohproxy.wire.query import build_query
from dohproxy.wire.reply import compile_reply
from dohproxy.wire.request import parse_request_untrusted

QUERY = build_query(Question(from_text("www.example.com"), 1), 0, cd=False, do=False, pad_to=0)
ENCODED = urlsafe_b64encode(QUERY).rstrip(b"=")
SITE = Site("/dns-query", json=True)


def get(target, method=b"GET"):
    return SITE.query_untrusted(Head(method, target), b"")


def post(body, media=MEDIA_TYPE, **more):
    return SITE.query_untrusted(Head(b"POST", b"/dns-query", media, **more), body)


def replied(*rrsets, rcode=0, authority=()):
    return compile_reply(Answer(rcode, rrsets, authority), parse_request_untrusted(QUERY)).wire


def rrset(rdtype, ttl, *rdatas):
    return RRset(from_text("www.example.com"), rdtype, ttl, rdatas)


@pytest.mark.parametrize(
    "target",
    [
        b"/dns-query?dns=" + ENCODED,
        b"/dns-query?dns=" + ENCODED + b"==",
        b"/dns-query?a=b&dns=" + ENCODED,
        b"/dns-query?dns=" + ENCODED.replace(b"A", b"%41"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_query_in_the_target(target, method):
    if b"%41" in target:
        target = b"/dns-query?&" + target.partition(b"?")[2]
    assert get(target, method) == Query(QUERY)


def test_a_query_in_the_body():
    assert post(QUERY, length=len(QUERY)) == Query(QUERY)
    assert post(bytes(65535)) == Query(bytes(65535))


def test_what_base64url_may_not_have():
    standard = urlsafe_b64encode(b"\0\0\1" + b"\xfb\xff" * 20)
    assert b"-" in standard and b"_" in standard
    assert isinstance(get(b"/dns-query?dns=" + standard), Query)
    for wrong in (standard.replace(b"-", b"+"), standard.replace(b"_", b"/"), standard[:-1] + b"*", b"A", b"AAAA=AAA"):
        assert get(b"/dns-query?dns=" + wrong).status == 400


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (400, Head(b"GET", b"/dns-query")),
        (400, Head(b"GET", b"/dns-query?dns=")),
        (400, Head(b"GET", b"/dns-query?dns=AAAA")),
        (400, Head(b"GET", b"/dns-query?dns=" + ENCODED + b"&dns=" + ENCODED)),
        (400, Head(b"GET", b"/dns-query?dns=" + urlsafe_b64encode(b"\0\0\x80\0" + QUERY[4:]).rstrip(b"="))),
        (400, Head(b"GET", b"/dns-query?name=..")),
        (400, Head(b"GET", b"/dns-query?name=example.com&type=NOSUCH")),
        (400, Head(b"GET", b"/dns-query?name=example.com&type=65536")),
        (400, Head(b"GET", b"/dns-query?" + b"&".join([b"a%d=" % n for n in range(17)]))),
        (400, Head(b"GET", b"/dns-query?\xff")),
        (400, Head(b"POST", b"/dns-query", MEDIA_TYPE)),
        (404, Head(b"GET", b"/")),
        (404, Head(b"GET", b"/dns-query/?dns=" + ENCODED)),
        (404, Head(b"POST", b"/dns-query2", MEDIA_TYPE)),
        (405, Head(b"PUT", b"/dns-query")),
        (405, Head(b"OPTIONS", b"*")),
        (413, Head(b"POST", b"/dns-query", MEDIA_TYPE, length=65536)),
        (414, Head(b"GET", b"/dns-query?dns=" + bytes(MOST_PATH))),
        (415, Head(b"POST", b"/dns-query", b"application/json")),
        (415, Head(b"POST", b"/dns-query")),
        (415, Head(b"POST", b"/dns-query", MEDIA_TYPE, coded=True)),
        (501, Head(b"BREW", b"/dns-query")),
    ],
)
def test_what_is_no_query(status, head):
    response = SITE.query_untrusted(head, b"")
    assert isinstance(response, Response) and response.status == status
    fields = dict(response.fields)
    assert fields[b"cache-control"] == b"no-store" and fields[b"content-length"] == b"%d" % len(response.body)
    assert (b"allow" in fields) is (status == 405)


def test_too_long_a_body():
    assert post(bytes(65536)).status == 413


def test_json_only_where_it_is_wanted():
    assert Site("/dns-query").query_untrusted(Head(b"GET", b"/dns-query?name=example.com"), b"").status == 400


@pytest.mark.parametrize(
    ("parameters", "qtype", "cd", "do"),
    [
        ("", 1, 0, 0),
        ("&type=AAAA", 28, 0, 0),
        ("&type=15&cd=1", 15, 1, 0),
        ("&type=TYPE65&do=true", 65, 0, 1),
        ("&type=", 1, 0, 0),
    ],
)
def test_a_question_in_json_form(parameters, qtype, cd, do):
    query = get(b"/dns-query?name=WWW.Example.com" + parameters.encode())
    request = parse_request_untrusted(query.wire)
    assert query.json and request.question == Question(from_text("www.example.com"), qtype)
    assert (request.rd, request.cd, request.do, request.wants_ad) == (True, bool(cd), bool(do), True)


@pytest.mark.parametrize(
    ("reply", "max_age"),
    [
        (replied(rrset(1, 300, b"\1\2\3\4")), b"max-age=300"),
        (replied(rrset(5, 60, from_text("a.example.com")), rrset(1, 300, b"\1\2\3\4")), b"max-age=60"),
        (
            replied(rcode=3, authority=(RRset(from_text("example.com"), 6, 900, (b"\0\0" + bytes(16) + b"\0\0\0\x3c",)),)),
            b"max-age=60",
        ),
        (replied(), b"no-store"),
        (replied(rcode=2), b"no-store"),
        (replied(rrset(1, 0, b"\1\2\3\4")), b"max-age=0"),
    ],
)
def test_for_how_long_a_response_holds(reply, max_age):
    response = SITE.response(Query(QUERY), reply)
    assert response.body == reply
    assert dict(response.fields) == {
        b":status": b"200",
        b"content-type": MEDIA_TYPE,
        b"content-length": b"%d" % len(reply),
        b"cache-control": max_age,
    }


def test_where_else_it_is_served():
    site = Site("/dns-query", json=True, elsewhere=b'h3=":443"; ma=86400')
    for query in (Query(QUERY), Query(QUERY, json=True)):
        first, second = (site.response(query, replied(rrset(1, 300, b"\1\2\3\4"))) for _ in range(2))
        assert (b"alt-svc", b'h3=":443"; ma=86400') in first.fields
        assert first.fields is second.fields


def test_an_answer_in_json():
    response = SITE.response(Query(QUERY, json=True), replied(rrset(1, 300, b"\1\2\3\4")))
    assert response.media == JSON and response.max_age == 300
    told = msgspec.json.decode(response.body)
    assert told["Status"] == 0 and told["RD"] and told["RA"] and not told["TC"]
    assert told["Question"] == [{"name": "www.example.com.", "type": 1}]
    assert told["Answer"] == [{"name": "www.example.com.", "type": 1, "TTL": 300, "data": "1.2.3.4"}]


def test_silence():
    assert SITE.response(Query(QUERY), b"").status == 403


def test_a_head():
    head = head_untrusted(
        [
            (b":method", b"POST"),
            (b":path", b"/dns-query"),
            (b"content-type", b"Application/DNS-Message; charset=utf-8"),
            (b"content-length", b"33"),
            (b"content-encoding", b"gzip"),
        ]
    )
    assert head == Head(b"POST", b"/dns-query", MEDIA_TYPE, True, 33)


@pytest.mark.parametrize("length", [b"-1", b"+1", b"1 ", b"", b"1" * 20, b"0x1"])
def test_a_length_that_is_none(length):
    with pytest.raises(MalformedMessage):
        head_untrusted([(b"content-length", length)])


def test_two_lengths():
    with pytest.raises(MalformedMessage):
        head_untrusted([(b"content-length", b"1"), (b"content-length", b"1")])


def test_replies_in_json_tell_of_errors():
    query = get(b"/dns-query?name=example.com")
    from dohproxy.model import Ede
    from dohproxy.wire.reply import error_reply_for

    reply = error_reply_for(parse_request_untrusted(query.wire), 2, (Ede(6, "bogus"),))
    told = msgspec.json.decode(SITE.response(query, reply).body)
    assert told["Status"] == 2 and told["extended_dns_errors"] == [{"info_code": 6, "extra_text": "bogus"}]
    assert dns.message.from_wire(reply).rcode() == 2
