"""The door answers what the view answers, byte for byte, and leaves all else to it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import OKPAlgorithm
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from api import auth
from api.at_once import Answering
from api.config import SignIn
from api.graphql import door
from api.graphql.ids import global_id
from api.graphql.plans import lists
from api.jwks import KeySet
from db.practices import Practice
from mail.event import EventKind
from tests.integration.api.evidence import Evidence, make_messages
from tests.support.practice import make_account, make_patient
from tests.support.stack import Stack, serving_app, token_for

JSON, RESPONSE_JSON = "application/json", "application/graphql-response+json"
TAB = """query Tab($id: ID!, $first: Int = 25, $with: Boolean = true) {
  patient(id: $id) { name messages(first: $first) {
    nodes { id subject status statusLabel statusAt queuedAt explanation { code text nextStep }
      account { id name kind tracked } resendOf { id } deliveredAt @include(if: $with) }
    edges { cursor node { id text patient { name } } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""


class Passed:
    """How many requests the door answered by itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        begun = door.Door._begun

        def count(*arguments: Any) -> Answering | None:
            found = begun(*arguments)
            self.count += found is not None
            return found

        monkeypatch.setattr(door.Door, "_begun", count)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Passed:
    return Passed(monkeypatch)


def told(response: httpx2.Response) -> tuple[Any, ...]:
    headers = {name: value for name, value in response.headers.items() if name not in {"date", "server"}}
    return response.status_code, sorted(headers.items()), response.content


async def test_the_second_answer_is_the_first_to_the_byte(
    stack: Stack, practice: Practice, evidence: Evidence, passed: Passed
) -> None:
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    for message in await make_messages(stack.database, practice, patient, account, 4):
        await evidence.of(practice, message, EventKind.DELIVERED, EventKind.OPENED)
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    async with httpx2.AsyncClient(base_url=await stack.api(), headers=headers) as http:
        for accept in (JSON, RESPONSE_JSON, "*/*", f"{RESPONSE_JSON}, {JSON};q=0.9"):
            for variables in ({"id": global_id("Patient", patient.id)}, {"id": "x"}, {"id": "x", "with": None}):
                body = json.dumps({"query": f"# {accept}{variables}\n{TAB}", "variables": variables}).encode()
                sent = {"content-type": JSON, "accept": accept}
                answers = [await http.post("/graphql", content=body, headers=sent) for _ in range(3)]
                assert told(answers[0]) == told(answers[1]) == told(answers[2])
    # The first of each goes in, and so do variables that don't hold.
    assert passed.count == 4 * 2 * 2


async def test_errors_are_those_of_the_view(stack: Stack, practice: Practice, passed: Passed) -> None:
    patient = await make_patient(stack.database, practice)
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    async with httpx2.AsyncClient(base_url=await stack.api(), headers=headers) as http:
        for accept in (JSON, RESPONSE_JSON):
            for first in (1000, -1):
                body = {
                    "query": f"# {accept}{first}\n{TAB}",
                    "variables": {"id": global_id("Patient", patient.id), "first": first},
                }
                answers = [await http.post("/graphql", json=body, headers={"accept": accept}) for _ in range(2)]
                assert told(answers[0]) == told(answers[1])
                assert answers[1].json()["errors"][0]["path"] == ["patient", "messages"]
    assert passed.count == 4


async def test_an_unexpected_error_is_masked_at_the_door_too(
    stack: Stack, practice: Practice, passed: Passed, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "{ messages { nodes { id } } }"
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    async with httpx2.AsyncClient(base_url=await stack.api(), headers=headers) as http:
        assert (await http.post("/graphql", json={"query": query})).json() == {"data": {"messages": {"nodes": []}}}

        async def fail(*_: object, **__: object) -> None:
            raise ValueError("Pat Example")

        monkeypatch.setattr(lists, "list_messages", fail)
        with capture_logs() as logs:
            response = await http.post("/graphql", json={"query": query})
    [error] = response.json()["errors"]
    assert (response.status_code, error["extensions"]["code"], passed.count) == (200, "INTERNAL_ERROR", 1)
    assert error["extensions"]["id"] in error["message"]
    assert [line["error_id"] for line in logs if line["event"] == "unexpected error"] == [error["extensions"]["id"]]
    assert "Pat" not in str(logs) + response.text


async def test_a_body_in_pieces_is_read_and_what_is_not_plain_goes_in(
    stack: Stack, practice: Practice, passed: Passed
) -> None:
    query = json.dumps({"query": "{ viewer { role } }"}).encode()
    answer = {"data": {"viewer": {"role": "STAFF"}}}
    token = f"Bearer {token_for(practice)}"
    api = httpx2.URL(await stack.api())

    async def ask(*lines: str, body: bytes = query, pause: bool = False) -> tuple[int, Any]:
        reader, writer = await asyncio.open_connection(api.host, api.port)
        head = ["POST /graphql HTTP/1.1", "Host: a", "Content-Type: application/json", "Connection: close", *lines]
        writer.write("\r\n".join([*head, "", ""]).encode())
        for piece in (body[:9], body[9:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05 if pause else 0)
        whole = await reader.read()
        writer.close()
        return int(whole.split()[1]), json.loads(whole.partition(b"\r\n\r\n")[2])

    signed, length = f"Authorization: {token}", f"Content-Length: {len(query)}"
    assert await ask(signed, length) == (200, answer)
    assert await ask(signed, length, pause=True) == (200, answer)
    assert passed.count == 1
    assert (await ask(length))[0] == 401
    assert (await ask(signed, signed, length))[0] == 200
    assert (await ask(signed, length, "Content-Encoding: gzip"))[0] == 415
    for body in (b"null", b"[]", b"{", b'{"query": 1}', b'{"query": "{ viewer { role } }", "extensions": ""}'):
        assert (await ask(signed, f"Content-Length: {len(body)}", body=body, pause=True))[0] == 400
    assert passed.count == 1


async def test_a_key_that_is_withdrawn_signs_nobody_in_after_a_while(
    stack: Stack, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[dict[str, Any]] = []
    mine = ed25519.Ed25519PrivateKey.generate()
    keys.append({**json.loads(OKPAlgorithm.to_jwk(mine.public_key())), "kid": "mine", "use": "sig"})

    async def jwks(request: object) -> Response:
        return JSONResponse({"keys": keys})

    now = datetime.now(UTC)
    claims = {"sub": "ada", "practice_id": str(practice.id), "role": "STAFF", "exp": now + timedelta(hours=1)}
    token = jwt.encode(claims, mine, "EdDSA", headers={"kid": "mine"})
    async with serving_app(Starlette(routes=[Route("/jwks", jwks)])) as url:
        authenticator = auth.Authenticator(SignIn(jwks_url=f"{url}/jwks"))
        assert (await authenticator.authenticate(f"Bearer {token}")).subject == "ada"
        other = ed25519.Ed25519PrivateKey.generate()
        keys[:] = [{**json.loads(OKPAlgorithm.to_jwk(other.public_key())), "kid": "other", "use": "sig"}]
        # The provider's keys are read anew at the end of their own time.
        authenticator._keys = KeySet(f"{url}/jwks")
        assert (await authenticator.authenticate(f"Bearer {token}")).subject == "ada"
        clock = auth.time.monotonic
        monkeypatch.setattr(auth.time, "monotonic", lambda: clock() + 61)
        with pytest.raises(auth.Unauthenticated):
            await authenticator.authenticate(f"Bearer {token}")


async def test_a_token_is_not_remembered_beyond_its_end(practice: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "a secret of this test that is long enough"
    authenticator = auth.Authenticator(SignIn(secret=secret))
    end = datetime.now(UTC) + timedelta(seconds=30)
    claims = {"sub": "ada", "practice_id": str(practice.id), "role": "STAFF", "exp": end}
    token = f"Bearer {jwt.encode(claims, secret, 'HS256')}"
    asked = 0
    verified = auth.Authenticator._verified

    async def count(self: auth.Authenticator, authorization: str | None) -> auth.Principal:
        nonlocal asked
        asked += 1
        return await verified(self, authorization)

    monkeypatch.setattr(auth.Authenticator, "_verified", count)
    for _ in range(3):
        await authenticator.authenticate(token)
    assert asked == 1
    clock = auth.time.time
    monkeypatch.setattr(auth.time, "time", lambda: clock() + 31)
    await authenticator.authenticate(token)  # by PyJWT's own clock it holds still
    assert asked == 2


async def test_no_more_than_some_thousand_tokens_are_remembered(
    practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_REMEMBERED", 5)
    secret = "a secret of this test that is long enough"
    authenticator = auth.Authenticator(SignIn(secret=secret))
    end = datetime.now(UTC) + timedelta(hours=1)
    for number in range(20):
        claims = {"sub": str(number), "practice_id": str(practice.id), "role": "STAFF", "exp": end}
        await authenticator.authenticate(f"Bearer {jwt.encode(claims, secret, 'HS256')}")
    assert len(authenticator._remembered) <= 5
