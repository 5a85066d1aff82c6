"""GraphQL over HTTP at its edges: whatever is posted gets an answer in JSON with a code, and never a 500."""

import gzip
import json
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from api.config import Limits
from api.graphql import queries
from db.practices import Practice
from tests.support.stack import Stack, token_for

JSON = "application/json"
RESPONSE_JSON = "application/graphql-response+json"
OK = json.dumps({"query": "{ viewer { role } }"}).encode()

BODIES: dict[str, tuple[bytes, str]] = {
    "a JSON string": (b'"query"', "BAD_REQUEST"),
    "null": (b"null", "BAD_REQUEST"),
    "a number": (b"1", "BAD_REQUEST"),
    "an array": (b"[]", "BAD_REQUEST"),
    "a batch": (b"[" + OK + b"," + OK + b"]", "BAD_REQUEST"),
    "nothing": (b"", "BAD_REQUEST"),
    "no JSON": (b"query { viewer { role } }", "BAD_REQUEST"),
    "bad UTF-8": (b'{"query": "\xff\xfe"}', "BAD_REQUEST"),
    "a lone surrogate": (b'{"query": "\\ud800"}', "BAD_REQUEST"),
    "NaN": (b'{"query": "{ viewer { role } }", "variables": {"a": NaN}}', "BAD_REQUEST"),
    "Infinity": (b'{"query": "{ viewer { role } }", "variables": {"a": 1e999}}', "BAD_REQUEST"),
    "100,000 levels": (b'{"variables": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "BAD_REQUEST"),
    "gzip": (gzip.compress(OK), "BAD_REQUEST"),
    "no query": (b"{}", "BAD_REQUEST"),
    "an empty query": (b'{"query": ""}', "BAD_REQUEST"),
    "a query that is null": (b'{"query": null}', "BAD_REQUEST"),
    "a query that is a number": (b'{"query": 1}', "BAD_REQUEST"),
    "a query that is a list": (b'{"query": ["{ viewer { role } }"]}', "BAD_REQUEST"),
    "variables that are a list": (b'{"query": "{ viewer { role } }", "variables": []}', "BAD_REQUEST"),
    "extensions that are a string": (b'{"query": "{ viewer { role } }", "extensions": "x"}', "BAD_REQUEST"),
    "an operation name that is a list": (b'{"query": "{ viewer { role } }", "operationName": ["a"]}', "BAD_REQUEST"),
    "an operation name that is an object": (b'{"query": "{ viewer { role } }", "operationName": {}}', "BAD_REQUEST"),
    "an unknown operation name": (b'{"query": "query a { viewer { role } }", "operationName": "b"}', "BAD_REQUEST"),
    "fragments alone": (b'{"query": "fragment a on Viewer { role }"}', "BAD_REQUEST"),
    "a subscription": (b'{"query": "subscription { accountHealthChanged { id } }"}', "BAD_REQUEST"),
    "more than is taken": (b'{"query": "' + b" " * (5 << 20) + b'"}', "REQUEST_TOO_LARGE"),
}

DOCUMENTS: dict[str, tuple[str, str]] = {
    "a syntax error": ("{ viewer {", "GRAPHQL_PARSE_FAILED"),
    "an unknown field": ("{ viewer { password } }", "GRAPHQL_VALIDATION_FAILED"),
    "an unknown fragment": ("{ ...nowhere }", "GRAPHQL_VALIDATION_FAILED"),
    "a fragment that holds itself": (
        "{ viewer { ...a } } fragment a on Viewer { role ...a }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "two operations and no name": ("query a { viewer { role } } query b { viewer { subject } }", "BAD_REQUEST"),
    "a missing variable": ("query ($id: ID!) { message(id: $id) { id } }", "BAD_USER_INPUT"),
    "an integer of 5,000 digits": (
        "{ patients(first: " + "9" * 5000 + ") { nodes { id } } }",
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "more tokens than allowed": ("{ viewer { " + "role " * 3000 + "} }", "QUERY_TOO_LONG"),
    "100,000 levels of lists": ("{ patient(id: " + "[" * 100_000 + "]" * 100_000 + ") { id } }", "QUERY_TOO_DEEP"),
    "300 levels of fields": ("{ viewer" * 300 + "}" * 300, "QUERY_TOO_DEEP"),
    "900 levels of lists": ("{ patient(id: " + "[" * 900 + "]" * 900 + ") { id } }", "QUERY_TOO_DEEP"),
    "depth": (
        "{ messages { nodes { " + "resendOf { " * 20 + "id" + " }" * 20 + " } } }",
        "QUERY_TOO_DEEP",
    ),
    "depth in fragments": (
        "{ messages { nodes { ...f0 } } } "
        + " ".join(f"fragment f{n} on Message {{ resendOf {{ ...f{n + 1} }} }}" for n in range(20))
        + " fragment f20 on Message { id }",
        "QUERY_TOO_DEEP",
    ),
    "aliases": ("{ " + " ".join(f"a{n}: viewer {{ role }}" for n in range(40)) + " }", "TOO_MANY_ALIASES"),
    "aliases doubled by fragments": (
        "{ viewer { ...f0 } } "
        + " ".join(f"fragment f{n} on Viewer {{ a{n}: role ...f{n + 1} ...f{n + 1} }}" for n in range(100))
        + " fragment f100 on Viewer { role }",
        "TOO_MANY_ALIASES",
    ),
    "a page of a million": ("{ patients(first: 1000000) { nodes { id } } }", "PAGE_SIZE_LIMIT"),
    "a page of less than nothing": ("{ patients(first: -1) { nodes { id } } }", "PAGE_SIZE_LIMIT"),
    "a cursor of nothing": ('{ patients(after: "x") { nodes { id } } }', "INVALID_CURSOR"),
    "a report of the end of time": (
        '{ deliveryReport(from: "9999-01-01", to: "9999-12-31") { total } }',
        "INVALID_TIME",
    ),
    "a report that ends before it begins": (
        '{ deliveryReport(from: "2026-02-01", to: "2026-01-01") { total } }',
        "INVALID_TIME",
    ),
    "a filter without an offset": (
        '{ messages(filter: {queuedFrom: "2026-01-01T00:00:00"}) { nodes { id } } }',
        "INVALID_TIME",
    ),
}


@pytest.fixture
async def http(stack: Stack, practice: Practice) -> Any:
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    async with httpx2.AsyncClient(base_url=await stack.api(), headers=headers, timeout=20) as client:
        yield client


async def ask(http: httpx2.AsyncClient, query: str, accept: str = JSON, **more: Any) -> httpx2.Response:
    return await http.post("/graphql", json={"query": query, **more}, headers={"accept": accept})


def codes(response: httpx2.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json()["errors"]]


async def test_every_malformed_body_gets_a_coded_answer_of_class_4xx(http: httpx2.AsyncClient) -> None:
    found = {}
    for name, (body, _) in BODIES.items():
        response = await http.post("/graphql", content=body, headers={"content-type": JSON})
        found[name] = (response.status_code, *(codes(response) if "errors" in response.json() else [response.text]))
    expected = {name: (413 if code == "REQUEST_TOO_LARGE" else 400, code) for name, (_, code) in BODIES.items()}
    assert found == expected


async def test_every_document_that_is_refused_says_why_in_a_code(http: httpx2.AsyncClient) -> None:
    found = {}
    for name, (query, _) in DOCUMENTS.items():
        response = await ask(http, query)
        assert response.status_code == 200, (name, response.text)
        found[name] = sorted(set(codes(response)))
    assert found == {name: [code] for name, (_, code) in DOCUMENTS.items()}


async def test_a_fragment_spread_twice_at_every_level_is_measured_in_no_time(http: httpx2.AsyncClient) -> None:
    fragments = [f"fragment f{n} on Viewer {{ ...f{n + 1} ...f{n + 1} }}" for n in range(60)]
    query = " ".join(["{ viewer { ...f0 } }", *fragments, "fragment f60 on Viewer { role }"])
    response = await ask(http, query)
    assert response.json() == {"data": {"viewer": {"role": "STAFF"}}}
    assert response.elapsed.total_seconds() < 2


async def test_variables_of_the_wrong_kind_are_refused_with_a_code(http: httpx2.AsyncClient) -> None:
    found = {}
    for name, query, variables in [
        ("a date", "query ($v: Date!) { deliveryReport(from: $v, to: $v) { total } }", {"v": "yesterday"}),
        ("a time", "query ($v: DateTime) { messages(filter: {queuedFrom: $v}) { nodes { id } } }", {"v": "noon"}),
        ("an integer beyond 32 bits", "query ($v: Int!) { patients(first: $v) { nodes { id } } }", {"v": 1 << 31}),
        ("an integer of 5,000 digits", "query ($v: Int!) { patients(first: $v) { nodes { id } } }", {"v": 1e300}),
        ("an object", "query ($v: ID!) { patient(id: $v) { id } }", {"v": {"a": {"b": []}}}),
        ("an enum", "query ($v: [MessageStatus!]) { messages(filter: {statuses: $v}) { nodes { id } } }", {"v": ["X"]}),
    ]:
        response = await ask(http, query, RESPONSE_JSON, variables=variables)
        found[name] = (response.status_code, *codes(response))
    assert found == dict.fromkeys(found, (400, "BAD_USER_INPUT"))


async def test_integers_of_5000_digits_in_a_body_are_refused(http: httpx2.AsyncClient) -> None:
    body = b'{"query": "query ($v: Int) { viewer { role } }", "variables": {"v": ' + b"9" * 5000 + b"}}"
    response = await http.post("/graphql", content=body, headers={"content-type": JSON})
    assert (response.status_code, codes(response)) == (400, ["BAD_REQUEST"])


async def test_other_methods_than_post_are_refused(http: httpx2.AsyncClient) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
        response = await http.request(method, "/graphql", params={"query": "{ viewer { role } }"})
        assert (response.status_code, response.headers["allow"]) == (405, "POST"), method
        assert codes(response) == ["METHOD_NOT_ALLOWED"]
    for accept in ("text/html", "text/event-stream", RESPONSE_JSON):
        response = await http.get("/graphql", headers={"accept": accept})
        assert (response.status_code, codes(response)) == (405, ["METHOD_NOT_ALLOWED"])


async def test_other_content_types_than_json_are_refused(http: httpx2.AsyncClient) -> None:
    types = [
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "application/jsonp",
        "",
    ]
    for content_type in types:
        headers = {"content-type": content_type}
        response = await http.post("/graphql", content=OK, headers=headers)
        assert (response.status_code, codes(response)) == (415, ["UNSUPPORTED_MEDIA_TYPE"]), content_type
    response = await http.post("/graphql", content=OK, headers={"content-type": "application/json; charset=utf-8"})
    assert response.json() == {"data": {"viewer": {"role": "STAFF"}}}


async def test_a_compressed_body_is_refused_unread(http: httpx2.AsyncClient) -> None:
    bomb = gzip.compress(b" " * (50 << 20))
    headers = {"content-type": JSON, "content-encoding": "gzip"}
    response = await http.post("/graphql", content=bomb, headers=headers)
    assert (response.status_code, codes(response)) == (415, ["UNSUPPORTED_MEDIA_TYPE"])


async def test_a_body_of_10_mb_is_refused_whether_it_says_its_length_or_not(http: httpx2.AsyncClient) -> None:
    async def chunks() -> Any:
        for _ in range(10 << 4):
            yield b" " * (1 << 16)

    for content in (b" " * (10 << 20), chunks()):
        response = await http.post("/graphql", content=content, headers={"content-type": JSON})
        assert (response.status_code, codes(response)) == (413, ["REQUEST_TOO_LARGE"])


async def test_the_media_type_of_the_answer_is_the_one_asked_for(http: httpx2.AsyncClient) -> None:
    good, bad, failing = "{ viewer { role } }", "{ viewer { password } }", "{ patients(first: -1) { nodes { id } } }"
    found = {}
    for accept in (JSON, RESPONSE_JSON, "*/*", f"{RESPONSE_JSON}, {JSON};q=0.9"):
        answers = [await ask(http, query, accept) for query in (good, bad, failing)]
        assert [answer.json().get("data") for answer in answers] == [{"viewer": {"role": "STAFF"}}, None, None]
        found[accept] = (
            answers[0].headers["content-type"].partition(";")[0],
            *(answer.status_code for answer in answers),
        )
    assert found == {
        JSON: (JSON, 200, 200, 200),
        RESPONSE_JSON: (RESPONSE_JSON, 200, 400, 200),
        "*/*": (JSON, 200, 200, 200),
        f"{RESPONSE_JSON}, {JSON};q=0.9": (RESPONSE_JSON, 200, 400, 200),
    }


async def test_an_unexpected_error_is_masked_with_an_id_that_the_log_has_too(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("Pat Example, pat@mail.example")

    monkeypatch.setattr(queries, "list_accounts", fail)
    with capture_logs() as logs:
        response = await ask(http, '{ sendingAccounts { id } patients(search: "Pat Example") { nodes { id } } }')
    [error] = response.json()["errors"]
    error_id = error["extensions"]["id"]
    assert response.status_code == 200
    assert error["extensions"] == {"code": "INTERNAL_ERROR", "id": error_id}
    assert error["message"] == f"Something went wrong on our side. Tell your operator this id: {error_id}"
    [line] = [line for line in logs if line["event"] == "unexpected error"]
    assert (line["error_id"], line["error"]) == (error_id, "ValueError")
    assert any("test_http_edges.py" in place for place in line["where"])
    assert "Pat" not in str(logs) + response.text + caplog.text


async def test_refused_documents_are_not_logged(http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    for query in ('{ patients(search: "Pat Example") { password } }', '{ patients(search: "Pat Example") {'):
        assert "errors" in (await ask(http, query)).json()
    assert "Pat Example" not in caplog.text


async def test_introspection_can_be_turned_off(stack: Stack, practice: Practice) -> None:
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    async with httpx2.AsyncClient(base_url=await stack.api(introspection=False), headers=headers) as http:
        response = await ask(http, "{ __schema { types { name } } }")
        assert set(codes(response)) == {"GRAPHQL_VALIDATION_FAILED"}
        guess = await ask(http, "{ viewr { role } }")
        assert "viewer" not in guess.text


async def test_limits_are_settings(stack: Stack, practice: Practice) -> None:
    limits = Limits(body_bytes=200, page_size=2, query_depth=2, query_tokens=20, query_aliases=1)
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    async with httpx2.AsyncClient(base_url=await stack.api(limits=limits), headers=headers) as http:
        for _ in range(2):  # a document that was answered before has no other limit
            assert (await ask(http, "{ viewer { role } }")).json() == {"data": {"viewer": {"role": "STAFF"}}}
            assert codes(await ask(http, "{ viewer { role } }", variables={"unused": " " * 200})) == [
                "REQUEST_TOO_LARGE"
            ]
        assert codes(await ask(http, "{ patients(first: 3) { nodes { id } } }")) == ["PAGE_SIZE_LIMIT"]
        assert codes(await ask(http, "{ patients { nodes { messages { liveCursor } } } }")) == ["QUERY_TOO_DEEP"]
        assert codes(await ask(http, "{ viewer { " + "role " * 20 + "} }")) == ["QUERY_TOO_LONG"]
        assert codes(await ask(http, "{ a: viewer { role } b: viewer { role } }")) == ["TOO_MANY_ALIASES"]
        assert (await ask(http, "{ patients(first: 2) { nodes { id } } }")).json() == {
            "data": {"patients": {"nodes": []}}
        }
