import base64
import gzip
import json
from typing import Any

import pytest
from metering.http import request
from metering.http.operations import MAX_ISSUES, USAGE_SUMMARY
from metering.http.request import Request
from metering.model.errors import (
    BadRequest,
    BodyTooLarge,
    InputInvalid,
    MediaTypeUnsupported,
    MethodNotAllowed,
    NotFound,
)

from tests.testing.payloads import batch_request, payload, query_request, record_request


def asked(**changes: Any) -> Request:
    return request.read(record_request(**changes), fallback_id="lambda")


def routed(method: str, path: str, route_key: str = "$default") -> Request:
    event = record_request()
    event["requestContext"]["http"]["method"] = method
    return request.read(event | {"routeKey": route_key, "rawPath": path}, fallback_id="lambda")


def test_a_request_of_api_gateway_is_read() -> None:
    read = request.read(payload("http-record-all-members.json"), fallback_id="lambda")
    assert read.id == "AbC2dEfGoAMEJrg="
    assert request.operation(read).key == "saas.billing.usage.record"
    assert request.members(read, 16384)["metadata"]["tags"] == ["nightly", "übung"]


@pytest.mark.parametrize("event", [None, [], "x", {}, {"requestContext": 1, "headers": [], "body": {}}])
def test_an_event_of_another_shape_is_an_empty_request(event: Any) -> None:
    read = request.read(event, fallback_id="lambda")
    assert (read.method, read.path, read.body, read.id) == ("", "", None, "lambda")


@pytest.mark.parametrize("id_", [None, "", 7, "x" * 129, "ü", "\n"])
def test_a_request_id_that_api_gateway_never_makes_is_not_stored(id_: Any) -> None:
    event = record_request()
    event["requestContext"]["requestId"] = id_
    assert request.read(event, fallback_id="lambda").id == "lambda"


def test_the_route_that_was_matched_counts_behind_a_custom_domain() -> None:
    route_key = "POST /saas/billing/usage/record/v1.0.0"
    assert request.operation(routed("POST", "/metering/saas/billing/usage/record/v1.0.0", route_key))


@pytest.mark.parametrize(
    "path",
    ["/", "", "/saas/billing/usage/record", "/saas/billing/usage/record/v1.0.0/", "/SAAS/billing/usage/record/v1.0.0"],
)
def test_an_unknown_route_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        request.operation(routed("POST", path))


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "post"])
def test_a_wrong_method_is_answered_with_the_allowed_one(method: str) -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        request.operation(routed(method, "/saas/billing/usage/record/v1.0.0"))
    assert refused.value.allow == "POST"


@pytest.mark.parametrize("body", [None, ""])
def test_an_empty_body_is_a_bad_request(body: str | None) -> None:
    event = record_request() | {"body": body}
    with pytest.raises(BadRequest, match="empty"):
        request.members(request.read(event, "lambda"), 100)


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "",
        "text/plain",
        "application/jsonp",
        "application/problem+json",
        "multipart/form-data; a=application/json",
    ],
)
def test_other_media_types_are_unsupported(media_type: str | None) -> None:
    with pytest.raises(MediaTypeUnsupported):
        request.members(asked(headers={"content-type": media_type}), 16384)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json,application/json",
        "application/json, text/plain",
        "application/json; charset=utf-8,text/plain",
        'application/json; a="b",application/json; a="b"',
    ],
)
def test_a_media_type_that_was_sent_twice_is_unsupported(media_type: str) -> None:
    with pytest.raises(MediaTypeUnsupported, match="sent twice"):
        request.members(asked(headers={"content-type": media_type}), 16384)


def test_a_quoted_parameter_of_the_media_type_may_hold_a_comma() -> None:
    read = asked(headers={"content-type": 'application/json; a="b,\\",c"'})
    assert request.members(read, 16384)["quantity"] == 1


@pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE"])
@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON ; charset=utf-8"])
def test_json_is_accepted_however_it_is_spelt(name: str, media_type: str) -> None:
    event = record_request(headers={"content-type": None} | {name: media_type})
    assert request.members(request.read(event, "lambda"), 16384)["quantity"] == 1


def test_the_size_is_counted_in_bytes() -> None:
    text = json.dumps({"a": "ü" * 10}, ensure_ascii=False)
    assert request.members(asked(raw=text), len(text) + 10) == {"a": "ü" * 10}
    with pytest.raises(BodyTooLarge, match="at most 28"):
        request.members(asked(raw=text), len(text) + 9)


@pytest.mark.parametrize("text", ["@@@", "e30", "e30=\n", "{}", "ü"])
def test_a_body_with_invalid_base64_is_a_bad_request(text: str) -> None:
    event = record_request(raw=text) | {"isBase64Encoded": True}
    with pytest.raises(BadRequest, match="base64"):
        request.members(request.read(event, "lambda"), 100)


@pytest.mark.parametrize(
    "damaged", [b"\xff\xfe", b'{"sourceId":"\xff"}', '{"a":"ü"}'.encode("latin-1"), '{"ü":1}'.encode("utf-16-le")]
)
def test_bytes_that_are_not_utf8_are_a_bad_request(damaged: bytes) -> None:
    base64_event = record_request(raw=base64.b64encode(damaged).decode()) | {"isBase64Encoded": True}
    text_event = record_request(raw=damaged.decode(errors="replace"))
    for event in (base64_event, text_event):
        with pytest.raises(BadRequest, match="UTF-8"):
            request.members(request.read(event, "lambda"), 100)


def test_a_lone_surrogate_in_the_text_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="UTF-8"):
        request.members(asked(raw='{"a":"\ud800"}'), 100)


@pytest.mark.parametrize("name", ["content-encoding", "Content-Encoding"])
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "zstd", "identity, gzip", "gzip,gzip", "utf-8"])
def test_an_encoded_body_is_unsupported(name: str, encoding: str) -> None:
    body = base64.b64encode(gzip.compress(b"{}")).decode()
    event = record_request(raw=body, headers={name: encoding}) | {"isBase64Encoded": True}
    with pytest.raises(MediaTypeUnsupported, match="Send the body uncompressed") as refused:
        request.members(request.read(event, "lambda"), 16384)
    assert [issue.code for issue in refused.value.issues] == ["content_encoding_unsupported"]


@pytest.mark.parametrize("encoding", ["identity", "Identity", "identity, identity", "", " "])
def test_a_body_that_is_declared_as_unencoded_is_accepted(encoding: str) -> None:
    assert request.members(asked(headers={"content-encoding": encoding}), 16384)["quantity"] == 1


@pytest.mark.parametrize("encoding", [None, "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_byte_order_mark_is_a_bad_request(encoding: str | None) -> None:
    text = "{}" if encoding in ("utf-8-sig", "utf-16") else "\ufeff{}"
    raw = text if encoding is None else base64.b64encode(text.encode(encoding)).decode()
    event = record_request(raw=raw) | {"isBase64Encoded": encoding is not None}
    with pytest.raises(BadRequest, match="byte order mark") as refused:
        request.members(request.read(event, "lambda"), 100)
    assert [issue.code for issue in refused.value.issues] == ["byte_order_mark"]


def test_a_command_takes_no_query_parameters_and_names_them() -> None:
    read = request.read(record_request() | {"rawQueryString": "dryRun=true&feature=a%2Fb"}, "lambda")
    with pytest.raises(InputInvalid) as refused:
        request.members(read, 16384)
    assert [(issue.path, issue.code) for issue in refused.value.issues] == [
        ("dryRun", "parameter_unexpected"),
        ("feature", "parameter_unexpected"),
    ]


def test_of_many_query_parameters_some_are_named() -> None:
    query = "&".join(f"p{number}=1" for number in range(1000))
    with pytest.raises(InputInvalid) as refused:
        request.members(request.read(record_request() | {"rawQueryString": query}, "lambda"), 16384)
    assert len(refused.value.issues) == MAX_ISSUES


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("a=%", ["a"]),
        ("a=1&a=2", ["a"]),
        ("a=x+y", ["a"]),
        ("a=1&", ["a", ""]),
        ("%zz", ["%zz"]),
        ("%ff=1", ["\ufffd"]),
    ],
)
def test_unexpected_query_parameters_are_named_in_any_encoding(query: str, names: list[str]) -> None:
    with pytest.raises(InputInvalid) as refused:
        request.members(request.read(record_request() | {"rawQueryString": query}, "lambda"), 16384)
    assert [issue.path for issue in refused.value.issues] == names


def test_the_replacement_character_may_be_escaped() -> None:
    assert request.members(asked(raw='{"a":"\\ufffd"}'), 100) == {"a": "\ufffd"}


@pytest.mark.parametrize(
    ("header", "key"),
    [("abc-123", "abc-123"), (' "abc-123" ', "abc-123"), ('"a\\"b\\\\c"', 'a"b\\c'), ('a"b', 'a"b'), ('"a,b"', "a,b")],
)
def test_the_header_names_the_key_plain_or_as_a_structured_string(header: str, key: str) -> None:
    assert request.with_idempotency_key({"quantity": 1}, asked(headers={"Idempotency-Key": header})) == {
        "quantity": 1,
        "idempotencyKey": key,
    }


@pytest.mark.parametrize("header", ["k1,k1", "k1, k1", "a,b", "k1,", ",k1", ",", 'k1,"k1"'])
def test_a_plain_key_header_with_a_comma_is_a_bad_request(header: str) -> None:
    # API Gateway joins the values of a header that was sent twice.
    for in_body in ({}, {"idempotencyKey": "k1"}, {"idempotencyKey": header}):
        with pytest.raises(BadRequest, match="sent twice") as refused:
            request.with_idempotency_key(in_body, asked(headers={"Idempotency-Key": header}))
        assert [(issue.path, issue.code) for issue in refused.value.issues] == [("idempotencyKey", "header_repeated")]


@pytest.mark.parametrize("header", ['"k1","k1"', '"k1", "k1"', '"k1",k1'])
def test_a_quoted_key_header_that_was_sent_twice_is_a_bad_request(header: str) -> None:
    with pytest.raises(BadRequest, match="Send the header once"):
        request.with_idempotency_key({"idempotencyKey": "k1"}, asked(headers={"Idempotency-Key": header}))


def test_a_key_in_the_body_may_hold_a_comma() -> None:
    quoted = asked(headers={"idempotency-key": '"k1,k1"'})
    assert request.with_idempotency_key({"idempotencyKey": "k1,k1"}, asked()) == {"idempotencyKey": "k1,k1"}
    assert request.with_idempotency_key({"idempotencyKey": "k1,k1"}, quoted) == {"idempotencyKey": "k1,k1"}


@pytest.mark.parametrize("header", ['"abc', '"', '"a"b"', '"a\\b"', '"ü"', '"a";p=1'])
def test_a_malformed_structured_string_is_a_bad_request(header: str) -> None:
    with pytest.raises(BadRequest, match="RFC 8941"):
        request.with_idempotency_key({}, asked(headers={"idempotency-key": header}))


def test_the_same_key_twice_is_one_key() -> None:
    read = asked(headers={"idempotency-key": '"abc-123"'})
    assert request.with_idempotency_key({"idempotencyKey": "abc-123"}, read) == {"idempotencyKey": "abc-123"}


@pytest.mark.parametrize("in_body", ["abc-124", "", None, 1, '"abc-123"'])
def test_two_different_keys_are_a_bad_request(in_body: Any) -> None:
    with pytest.raises(BadRequest, match="differ"):
        request.with_idempotency_key({"idempotencyKey": in_body}, asked(headers={"idempotency-key": "abc-123"}))


@pytest.mark.parametrize("header", [None, "", "  "])
def test_a_request_without_a_key_is_a_bad_request(header: str | None) -> None:
    with pytest.raises(BadRequest, match="missing"):
        request.with_idempotency_key({"quantity": 1}, asked(headers={"idempotency-key": header}))


@pytest.mark.parametrize("header", ["abc-123", '"abc-123"', ""])
def test_a_batch_with_a_key_header_is_a_bad_request(header: str) -> None:
    with pytest.raises(BadRequest) as refused:
        request.without_idempotency_key(asked(headers={"idempotency-key": header}))
    assert [(issue.path, issue.code) for issue in refused.value.issues] == [("", "header_unexpected")]


def test_a_batch_needs_no_key_header() -> None:
    request.without_idempotency_key(asked(headers={"content-type": "application/json"}))


def test_the_header_is_found_however_it_is_spelt() -> None:
    sent = request.read(batch_request(headers={"Idempotency-KEY": "abc-123"}), "fallback")
    with pytest.raises(BadRequest):
        request.without_idempotency_key(sent)


def _parameters(query: str) -> dict[str, str]:
    return request.parameters(request.read(query_request(USAGE_SUMMARY, raw=query), "lambda"))


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1,2", {"a": "1,2"}),
        ("%61=%31", {"a": "1"}),
        ("a=%2B%26%3D%25%23%20", {"a": "+&=%# "}),
        ("a=%c3%BC", {"a": "ü"}),
        ("a=%EF%BF%BD", {"a": "\ufffd"}),
        ("a=!*'();:@/?~\"<>[]{}|^`\\", {"a": "!*'();:@/?~\"<>[]{}|^`\\"}),
    ],
)
def test_a_query_string_is_read_as_percent_encoded_utf8(query: str, parameters: dict[str, str]) -> None:
    assert _parameters(query) == parameters


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("a=1&a=1", "duplicate_parameter"),
        ("a=1&%61=2", "duplicate_parameter"),
        ("a&a", "duplicate_parameter"),
        ("a=%", "malformed"),
        ("a=%4", "malformed"),
        ("a=%zz", "malformed"),
        ("%=1", "malformed"),
        ("a=1+2", "malformed"),
        ("a+b=1", "malformed"),
        ("a=1 2", "malformed"),
        ("a=\u00fc", "malformed"),
        ("a=1\n", "malformed"),
        ("=1", "malformed"),
        ("a=1&&b=2", "malformed"),
        ("a=1&", "malformed"),
        ("&", "malformed"),
        ("a=%ff", "not_utf8"),
        ("a=%C3", "not_utf8"),
        ("a=%ED%A0%80", "not_utf8"),
        ("%ff=1", "not_utf8"),
    ],
)
def test_an_ambiguous_query_string_is_a_bad_request(query: str, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        _parameters(query)
    assert [issue.code for issue in refused.value.issues] == [code]


def test_the_query_parameters_that_api_gateway_parsed_are_ignored() -> None:
    event = query_request(USAGE_SUMMARY, raw="a=1") | {"queryStringParameters": {"a": "2", "b": "3"}}
    assert request.parameters(request.read(event, "lambda")) == {"a": "1"}


@pytest.mark.parametrize("query", [None, 7, ["a=1"], {"a": "1"}])
def test_a_query_string_of_another_type_counts_as_empty(query: Any) -> None:
    event = query_request(USAGE_SUMMARY) | {"rawQueryString": query}
    assert request.parameters(request.read(event, "lambda")) == {}
