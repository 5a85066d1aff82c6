"""GraphQL over WebSocket (graphql-transport-ws) and Server-Sent Events: who may speak, and how a socket ends."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from api.config import Limits, SignIn
from api.graphql.ids import global_id
from api.roles import Role
from db.practices import Practice
from mail.event import EventKind
from tests.integration.api.evidence import Evidence
from tests.integration.api.sockets import (
    CHANGED,
    LiveClient,
    closing_of,
    hear,
    plain_socket,
    say,
    sign_in,
)
from tests.support.practice import make_account, make_message, make_patient, make_practice
from tests.support.stack import JWT_SECRET, PATIENCE, Stack, token_for

SEND = "mutation ($input: CreatePatientInput!) { createPatient(input: $input) { patient { name } errors { code } } }"


async def test_a_socket_without_a_token_that_holds_is_closed_by_4403(stack: Stack, practice: Practice) -> None:
    api = await stack.api()
    payloads: list[Any] = [
        None,
        {},
        {"Authorization": "Bearer junk"},
        {"Authorization": f"Basic {token_for(practice)}"},
        {"Authorization": 7},
        {"Authorization": None},
        {"Authorization": f"Bearer {token_for(practice, lifetime=timedelta(minutes=-1))}"},
    ]
    for payload in payloads:
        async with plain_socket(api) as socket:
            message = (
                {"type": "connection_init"} if payload is None else {"type": "connection_init", "payload": payload}
            )
            await say(socket, message)
            assert await closing_of(socket) == (4403, "Forbidden"), payload


async def test_a_socket_that_never_signs_in_is_closed_by_4408(stack: Stack) -> None:
    api = await stack.api(limits=Limits(socket_init_seconds=0.2))
    async with plain_socket(api) as socket:
        await say(socket, {"type": "ping"})
        assert await hear(socket) == {"type": "pong"}
        assert (await closing_of(socket))[0] == 4408


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
async def test_the_name_of_the_token_may_be_written_as_a_header_may(
    stack: Stack, practice: Practice, name: str
) -> None:
    async with plain_socket(await stack.api()) as socket:
        await say(socket, {"type": "connection_init", "payload": {name: f"Bearer {token_for(practice)}"}})
        assert await hear(socket) == {"type": "connection_ack"}


async def test_every_malformed_message_ends_in_a_code_of_the_protocol(stack: Stack, practice: Practice) -> None:
    query = "{ viewer { role } }"
    messages: dict[str, tuple[Any, int]] = {
        "no JSON": ("hello", 4400),
        "nothing": ("", 4400),
        "an array": ("[]", 4400),
        "a string": ('"ping"', 4400),
        "null": ("null", 4400),
        "a number": ("1", 4400),
        "NaN": ('{"type": NaN}', 4400),
        "100,000 levels": ("[" * 100_000, 4400),
        "bytes": (b'{"type": "ping"}', 4400),
        "no type": ("{}", 4400),
        "a type that is a list": ('{"type": ["ping"]}', 4400),
        "an unknown type": ('{"type": "start"}', 4400),
        "an unknown type without end": (json.dumps({"type": "x" * 10_000}), 4400),
        "a second init": (json.dumps({"type": "connection_init"}), 4429),
        "an init that carries a list": ('{"type": "connection_init", "payload": []}', 4400),
        "no id": (json.dumps({"type": "subscribe", "payload": {"query": query}}), 4400),
        "an id that is a list": (json.dumps({"type": "subscribe", "id": [], "payload": {"query": query}}), 4400),
        "an id that is empty": (json.dumps({"type": "subscribe", "id": "", "payload": {"query": query}}), 4400),
        "no payload": ('{"type": "subscribe", "id": "1"}', 4400),
        "a payload that is a string": ('{"type": "subscribe", "id": "1", "payload": "x"}', 4400),
        "a query that is a number": ('{"type": "subscribe", "id": "1", "payload": {"query": 1}}', 4400),
        "variables that are a list": (
            json.dumps({"type": "subscribe", "id": "1", "payload": {"query": query, "variables": []}}),
            4400,
        ),
        "an operation name that is a list": (
            json.dumps({"type": "subscribe", "id": "1", "payload": {"query": query, "operationName": []}}),
            4400,
        ),
        "complete without an id": ('{"type": "complete"}', 4400),
        "complete with an id that is an object": ('{"type": "complete", "id": {}}', 4400),
    }
    api = await stack.api()
    found = {}
    for name, (message, _) in messages.items():
        async with plain_socket(api) as socket:
            await sign_in(socket, token_for(practice))
            await socket.send(message)
            found[name] = (await closing_of(socket))[0]
    assert found == {name: code for name, (_, code) in messages.items()}


async def test_nothing_may_be_asked_before_signing_in(stack: Stack) -> None:
    async with plain_socket(await stack.api()) as socket:
        await say(socket, {"id": "1", "type": "subscribe", "payload": {"query": "{ viewer { role } }"}})
        assert await closing_of(socket) == (4401, "Unauthorized")


async def test_an_id_names_one_operation_at_a_time(stack: Stack, practice: Practice) -> None:
    async with plain_socket(await stack.api()) as socket:
        await sign_in(socket, token_for(practice))
        name = "a" * 500
        for _ in range(2):
            await say(socket, {"id": name, "type": "subscribe", "payload": {"query": CHANGED}})
        code, reason = await closing_of(socket)
        assert (code, reason[:21], len(reason)) == (4409, "Subscriber for aaaaaa", 123)


async def test_the_legacy_protocol_and_none_are_refused(stack: Stack) -> None:
    api = await stack.api()
    for protocol in ("graphql-ws", "mqtt"):
        async with plain_socket(api, protocol=protocol) as socket:
            assert await closing_of(socket) == (4406, "Subprotocol not acceptable")


async def test_a_page_of_another_origin_gets_no_socket(stack: Stack) -> None:
    api = await stack.api(allowed_origins=("https://app.northgate.example",))
    for origin in ("https://evil.example", "null", "https://app.northgate.example.evil.example"):
        with pytest.raises(InvalidStatus) as refused:
            async with plain_socket(api, origin=origin):
                pass
        assert refused.value.response.status_code == 403
    for origin in ("https://app.northgate.example", api):
        async with plain_socket(api, origin=origin) as socket:
            await say(socket, {"type": "ping", "payload": {"at": 1}})
            assert await hear(socket) == {"type": "pong"}


async def test_queries_and_mutations_go_over_a_socket_too(stack: Stack, practice: Practice) -> None:
    async with LiveClient(await stack.api(), token_for(practice)) as client:
        asked = await client.start("{ viewer { role practice { name } } }")
        data = {"viewer": {"role": "STAFF", "practice": {"name": "Northgate Practice"}}}
        assert await client.answer(asked) == {"id": asked, "type": "next", "payload": {"data": data}}
        assert await client.answer(asked) == {"id": asked, "type": "complete"}
        asked = await client.start(SEND, input={"name": "Ann", "email": "ann@mail.example"})
        data = {"createPatient": {"patient": {"name": "Ann"}, "errors": []}}
        assert (await client.answer(asked))["payload"] == {"data": data}


async def test_what_is_wrong_with_a_document_is_told_to_its_own_operation(stack: Stack, practice: Practice) -> None:
    documents = {
        "{ viewer {": "GRAPHQL_PARSE_FAILED",
        '{ viewer "' + "x" * 500 + '" }': "GRAPHQL_PARSE_FAILED",
        "{ viewer { password } }": "GRAPHQL_VALIDATION_FAILED",
        "": "BAD_REQUEST",
        "fragment a on Viewer { role }": "BAD_REQUEST",
        "query a { viewer { role } } query b { viewer { role } }": "BAD_REQUEST",
        "{ viewer { " + "role " * 3000 + "} }": "QUERY_TOO_LONG",
        "{ messages { nodes { " + "resendOf { " * 20 + "id" + " }" * 20 + " } } }": "QUERY_TOO_DEEP",
        'subscription { messageStatusChanged(since: "x") { cursor } }': "INVALID_CURSOR",
        'subscription { messageStatusChanged(patientId: "x") { cursor } }': "INVALID_ID",
        'subscription { messageStatusChanged(messageIds: ["x"]) { cursor } }': "INVALID_ID",
    }
    async with LiveClient(await stack.api(), token_for(practice)) as client:
        found = {}
        for query in documents:
            answer = await client.answer(await client.start(query))
            errors = answer["payload"]["errors"] if answer["type"] == "next" else answer["payload"]
            found[query] = errors[0]["extensions"]["code"]
        assert found == documents
        many = await client.start(CHANGED, messageIds=[global_id("Message", practice.id)] * 501)
        answer = await client.answer(many)
        assert "TOO_MANY" in str(answer)
        await client.settle()


async def test_an_unexpected_error_on_a_socket_is_masked(
    stack: Stack, practice: Practice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ValueError("Pat Example")

    monkeypatch.setattr("api.graphql.subscriptions.list_accounts", fail)
    async with LiveClient(await stack.api(), token_for(practice)) as client:
        answer = await client.answer(await client.start("subscription { accountHealthChanged { id } }"))
        assert "INTERNAL_ERROR" in str(answer)
        assert "Pat" not in str(answer) + caplog.text
        await client.settle()


async def test_a_socket_takes_so_many_subscriptions_and_no_more(stack: Stack, practice: Practice) -> None:
    api = await stack.api(limits=Limits(subscriptions_per_socket=3))
    async with LiveClient(api, token_for(practice)) as client:
        kept = [await client.start(CHANGED) for _ in range(3)]
        refused = await client.answer(await client.start(CHANGED))
        assert refused["type"] == "error"
        assert refused["payload"] == [{"message": "At most 3 at once.", "extensions": {"code": "SUBSCRIPTION_LIMIT"}}]
        await say(client.socket, {"id": kept[0], "type": "complete"})
        await client.settle()


async def test_a_socket_ends_with_its_token(stack: Stack, practice: Practice) -> None:
    token = token_for(practice, lifetime=timedelta(seconds=2))
    async with LiveClient(await stack.api(), token) as client:
        await client.watch()
        async with asyncio.timeout(8):
            await client.socket.wait_closed()
        assert (client.socket.close_code, client.socket.close_reason) == (4403, "Token expired")


async def renew(socket: ClientConnection, token: str) -> None:
    await say(socket, {"type": "ping", "payload": {"Authorization": f"Bearer {token}"}})


async def test_a_ping_with_a_new_token_keeps_a_socket_beyond_the_first(stack: Stack, practice: Practice) -> None:
    first, api = token_for(practice, lifetime=timedelta(seconds=2)), await stack.api()
    async with plain_socket(api) as renewed, plain_socket(api) as left_alone:
        for socket in (renewed, left_alone):
            await sign_in(socket, first)
        second = token_for(practice, lifetime=timedelta(seconds=4))
        await renew(renewed, second)
        ends = jwt.decode(second, options={"verify_signature": False})["exp"]
        until = (await hear(renewed))["payload"]["expiresAt"]
        assert datetime.fromisoformat(until) == datetime.fromtimestamp(ends, UTC)
        assert await closing_of(left_alone) == (4403, "Token expired")
        await say(renewed, {"id": "1", "type": "subscribe", "payload": {"query": "{ viewer { role } }"}})
        assert (await hear(renewed))["payload"] == {"data": {"viewer": {"role": "STAFF"}}}
        assert await closing_of(renewed) == (4403, "Token expired")


@pytest.mark.parametrize("whose", ["nobody's", "another practice's", "another role's", "one that ended"])
async def test_a_ping_with_a_token_that_is_not_ones_own_ends_the_socket(
    stack: Stack, practice: Practice, database_url: str, whose: str
) -> None:
    other = await make_practice(database_url, "Southgate Practice")
    token = {
        "nobody's": "made up",
        "another practice's": token_for(other),
        "another role's": token_for(practice, Role.ADMIN),
        "one that ended": token_for(practice, lifetime=timedelta(minutes=-1)),
    }[whose]
    async with plain_socket(await stack.api()) as socket:
        await sign_in(socket, token_for(practice))
        await renew(socket, token)
        assert (await closing_of(socket))[0] == 4403


async def test_a_ping_with_a_token_signs_nobody_in(stack: Stack, practice: Practice) -> None:
    async with plain_socket(await stack.api()) as socket:
        await renew(socket, token_for(practice))
        assert await hear(socket) == {"type": "pong"}
        await say(socket, {"id": "1", "type": "subscribe", "payload": {"query": CHANGED}})
        assert (await closing_of(socket))[0] == 4401


async def test_a_socket_is_asked_to_come_again_when_the_keys_are_out_of_reach(stack: Stack, practice: Practice) -> None:
    api = await stack.api(sign_in=SignIn(jwks_url="http://127.0.0.1:1/jwks"))
    async with plain_socket(api) as socket:
        token = jwt.encode({"sub": "a"}, JWT_SECRET, headers={"kid": "a"})
        await say(socket, {"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}})
        assert (await closing_of(socket))[0] == 1013


async def events_of(response: httpx2.Response) -> Any:
    """The data of each event of a stream."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def test_a_subscription_goes_over_server_sent_events(
    stack: Stack, practice: Practice, evidence: Evidence
) -> None:
    api = await stack.api()
    client = await stack.client(api, practice)
    patient = await make_patient(stack.database, practice)
    message = await make_message(stack.database, practice, patient, await make_account(stack.database, practice))
    cursor = (await client("{ messages { liveCursor } }"))["messages"]["liveCursor"]
    headers = {"authorization": f"Bearer {token_for(practice)}", "accept": "text/event-stream"}
    body = {"query": CHANGED, "variables": {"since": cursor}}
    async with (
        asyncio.timeout(PATIENCE),
        client.http.stream("POST", "/graphql", json=body, headers=headers) as response,
    ):
        assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
        await evidence.of(practice, message, EventKind.DELIVERED)
        async for event in events_of(response):
            change = event["data"]["messageStatusChanged"]["message"]
            assert change == {"id": global_id("Message", message), "status": "DELIVERED"}
            break


async def test_a_subscription_goes_over_a_multipart_answer(
    stack: Stack, practice: Practice, evidence: Evidence
) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    message = await make_message(stack.database, practice, patient, await make_account(stack.database, practice))
    cursor = (await client("{ messages { liveCursor } }"))["messages"]["liveCursor"]
    accept = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json'
    headers = {"authorization": f"Bearer {token_for(practice)}", "accept": accept}
    body = {"query": CHANGED, "variables": {"since": cursor}}
    async with (
        asyncio.timeout(PATIENCE),
        client.http.stream("POST", "/graphql", json=body, headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("multipart/mixed")
        await evidence.of(practice, message, EventKind.DELIVERED)
        async for line in response.aiter_lines():
            if "messageStatusChanged" in line:
                change = json.loads(line)["payload"]["data"]["messageStatusChanged"]["message"]
                assert change == {"id": global_id("Message", message), "status": "DELIVERED"}
                break


async def test_a_stream_of_events_ends_with_its_token_without_a_last_word(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    token = token_for(practice, lifetime=timedelta(seconds=1))
    headers = {"authorization": f"Bearer {token}", "accept": "text/event-stream"}
    async with (
        asyncio.timeout(8),
        client.http.stream("POST", "/graphql", json={"query": CHANGED}, headers=headers) as response,
    ):
        assert "complete" not in "".join([line async for line in response.aiter_lines()])
