"""Queries by GET, where the operator wants them: https://graphql.github.io/graphql-over-http/draft/#sec-GET."""

import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from db.practices import Practice
from tests.support.practice import make_patient
from tests.support.stack import Stack, token_for

JSON = "application/json"
RESPONSE_JSON = "application/graphql-response+json"
VIEWER = "{ viewer { role } }"
NAMED = "query a { viewer { role } } query b($id: ID!) { patient(id: $id) { id } } mutation c { x: __typename }"


@pytest.fixture
async def http(stack: Stack, practice: Practice) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    url = await stack.api(queries_by_get=True)
    async with httpx2.AsyncClient(base_url=url, headers=headers) as http:
        yield http


def codes(response: httpx2.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json()["errors"]]


async def test_it_is_off_unless_asked_for(stack: Stack, practice: Practice) -> None:
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    async with httpx2.AsyncClient(base_url=await stack.api(), headers=headers) as http:
        response = await http.get("/graphql", params={"query": VIEWER})
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert codes(response) == ["METHOD_NOT_ALLOWED"]


async def test_a_query_is_answered_as_by_post_and_kept_by_nobody(
    stack: Stack, http: httpx2.AsyncClient, practice: Practice
) -> None:
    await make_patient(stack.database, practice, "zoe@mail.example", "Zoë & Söhne + 1")
    query = "query find($search: String!, $first: Int) { patients(search: $search, first: $first) { nodes { name } } }"
    asked = {"query": query, "operationName": "find", "variables": {"search": "zoë & söhne +", "first": 1}}
    by_post = await http.post("/graphql", json=asked)
    by_get = await http.get("/graphql", params=asked | {"variables": json.dumps(asked["variables"])})
    assert by_get.content == by_post.content
    assert by_get.json() == {"data": {"patients": {"nodes": [{"name": "Zoë & Söhne + 1"}]}}}
    assert by_get.headers["cache-control"] == "no-store"
    assert by_get.headers["content-type"] == by_post.headers["content-type"]


async def test_what_changes_something_needs_post(http: httpx2.AsyncClient) -> None:
    for params in (
        {"query": "mutation { x: __typename }"},
        {"query": NAMED, "operationName": "c"},
        {"query": "subscription { accountHealthChanged { id } }"},
    ):
        for accept in (JSON, RESPONSE_JSON, "*/*", "text/event-stream", 'multipart/mixed;subscriptionSpec="1.0"'):
            response = await http.get("/graphql", params=params, headers={"accept": accept})
            assert (response.status_code, codes(response)) == (405, ["METHOD_NOT_ALLOWED"]), params
            assert response.headers["allow"] == "POST, GET"
    for method in ("HEAD", "PUT", "DELETE", "OPTIONS"):
        response = await http.request(method, "/graphql", params={"query": VIEWER})
        assert (response.status_code, response.headers["allow"]) == (405, "POST, GET")


async def test_it_needs_a_token_in_the_header(http: httpx2.AsyncClient) -> None:
    token = http.headers.pop("authorization")
    for params in ({"query": VIEWER}, {"query": VIEWER, "authorization": token, "access_token": token.split()[1]}):
        response = await http.get("/graphql", params=params)
        assert (response.status_code, codes(response)) == (401, ["UNAUTHENTICATED"])


@pytest.mark.parametrize(
    ("search", "status", "code"),
    [
        ("", 400, "BAD_REQUEST"),
        ("query=", 400, "BAD_REQUEST"),
        ("query={viewer{", 400, "GRAPHQL_PARSE_FAILED"),
        ("query={viewer{password}}", 400, "GRAPHQL_VALIDATION_FAILED"),
        ("query={viewer{role}}&variables=no", 400, "BAD_REQUEST"),
        ("query={viewer{role}}&variables=[]", 400, "BAD_REQUEST"),
        ("query={viewer{role}}&variables=" + "[" * 10_000, 400, "BAD_REQUEST"),
        ("query={viewer{role}}&extensions=1", 400, "BAD_REQUEST"),
        ("query={viewer{role}}&operationName=nobody", 400, "BAD_REQUEST"),
        ("query=%ff%fe", 400, "GRAPHQL_PARSE_FAILED"),
        ("query=%00", 400, "GRAPHQL_PARSE_FAILED"),
        ("query={viewer{" + "role%20" * 3000 + "}}", 400, "QUERY_TOO_LONG"),
    ],
)
async def test_what_can_not_be_read_gets_a_code(http: httpx2.AsyncClient, search: str, status: int, code: str) -> None:
    response = await http.get(f"/graphql?{search}", headers={"accept": RESPONSE_JSON})
    assert (response.status_code, codes(response)) == (status, [code])


async def test_what_is_given_as_nothing_is_not_given(http: httpx2.AsyncClient) -> None:
    params = {"query": VIEWER, "variables": "", "operationName": "", "extensions": ""}
    assert (await http.get("/graphql", params=params)).json() == {"data": {"viewer": {"role": "STAFF"}}}


async def test_pages_elsewhere_may_ask_so_where_they_are_listed(stack: Stack, practice: Practice) -> None:
    url = await stack.api(queries_by_get=True, allowed_origins=("https://app.practice.example",))
    wish = {"origin": "https://app.practice.example", "access-control-request-method": "GET"}
    async with httpx2.AsyncClient(base_url=url) as http:
        assert (await http.options("/graphql", headers=wish)).status_code == 200
        other = wish | {"origin": "https://elsewhere.example"}
        assert (await http.options("/graphql", headers=other)).status_code == 400
