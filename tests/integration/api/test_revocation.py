"""A token that was revoked holds no more: within seconds in every API process, for requests, sockets and streams."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from api.auth import Principal
from api.revocations import Revocations
from api.roles import Role
from carepost.config import ConfigError
from carepost.revoke import read_revocation, run_revoke
from carepost.tokens import token_id_of
from db.pool import Pool
from db.practices import Practice
from db.revocations import Revocation
from mail.ids import PracticeId
from tests.integration.api.sockets import CHANGED, LiveClient
from tests.support.stack import JWT_SECRET, PATIENCE, GraphQLClient, Stack, token_for, until

VIEWER = "{ viewer { subject } }"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks anew after a tenth of a second instead of five."""
    monkeypatch.setattr("api.revocations.REMEMBER", 0.1)
    monkeypatch.setattr("api.graphql.view.REMEMBER", 0.1)


def signed(practice: Practice, **claims: Any) -> str:
    good = {
        "sub": "ada",
        "practice_id": str(practice.id),
        "role": "STAFF",
        "iat": datetime.now(UTC) - timedelta(minutes=1),
        "exp": datetime.now(UTC) + timedelta(hours=1),
    }
    return jwt.encode({k: v for k, v in (good | claims).items() if v is not None}, JWT_SECRET)


async def holds(client: GraphQLClient, token: str) -> bool:
    response = await client.http.post("/graphql", json={"query": VIEWER}, headers={"authorization": f"Bearer {token}"})
    if response.status_code == 200:
        return True
    [error] = response.json()["errors"]
    assert (response.status_code, error) == (
        401,
        {"message": "The token was revoked; sign in again.", "extensions": {"code": "UNAUTHENTICATED"}},
    )
    return False


async def which_hold(stack: Stack, practice: Practice, revocation: Revocation, tokens: dict[str, str]) -> set[str]:
    """Those that hold in each of two API processes, once the revocation is known there; all held before."""
    clients = [await stack.client(await stack.api(), practice) for _ in range(2)]
    for client in clients:
        for token in tokens.values():
            assert await holds(client, token)
    await run_revoke(stack.database_url, practice.id, revocation)
    await asyncio.sleep(0.2)
    first, second = [{name for name, token in tokens.items() if await holds(client, token)} for client in clients]
    assert first == second
    return first


async def test_one_token_is_revoked_by_its_id(stack: Stack, practice: Practice) -> None:
    token = token_for(practice)
    tokens = {"revoked": token, "another": token_for(practice), "without an id": signed(practice)}
    revocation = Revocation(token_id_of(token), None, datetime.now(UTC))
    assert await which_hold(stack, practice, revocation, tokens) == {"another", "without an id"}


async def test_all_tokens_of_a_person_are_revoked_but_those_issued_later(stack: Stack, practice: Practice) -> None:
    tokens = {
        "earlier": signed(practice),
        "without a time": signed(practice, iat=None),
        "another's": signed(practice, sub="ben"),
        "in the same second or later": signed(practice, iat=datetime.now(UTC) + timedelta(seconds=2)),
    }
    kept = {"another's", "in the same second or later"}
    assert await which_hold(stack, practice, Revocation(None, "ada", datetime.now(UTC)), tokens) == kept


async def test_all_tokens_of_a_practice_are_revoked_and_no_other_practices(
    stack: Stack, practice: Practice, other_practice: Practice
) -> None:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    tokens = {
        "before": signed(practice, iat=hour_ago - timedelta(minutes=1)),
        "another person's": signed(practice, sub="ben", iat=hour_ago - timedelta(minutes=1)),
        "after": signed(practice),
        "elsewhere": signed(other_practice, iat=hour_ago - timedelta(minutes=1)),
    }
    assert await which_hold(stack, practice, Revocation(None, None, hour_ago), tokens) == {"after", "elsewhere"}


async def test_a_socket_ends_when_its_token_is_revoked(stack: Stack, practice: Practice) -> None:
    token = token_for(practice)
    async with LiveClient(await stack.api(), token) as client, LiveClient(await stack.api(), token) as elsewhere:
        kept = await client.watch()
        await run_revoke(stack.database_url, practice.id, Revocation(token_id_of(token), None, datetime.now(UTC)))
        for each in (client, elsewhere):
            async with asyncio.timeout(PATIENCE):
                await each.socket.wait_closed()
            assert (each.socket.close_code, each.socket.close_reason) == (4403, "Token revoked")
        assert client.waiting(kept) == 0


async def test_a_stream_ends_when_its_token_is_revoked(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    token = token_for(practice)
    headers = {"authorization": f"Bearer {token}", "accept": "text/event-stream"}
    async with (
        asyncio.timeout(PATIENCE),
        client.http.stream("POST", "/graphql", json={"query": CHANGED}, headers=headers) as response,
    ):
        await run_revoke(stack.database_url, practice.id, Revocation(token_id_of(token), None, datetime.now(UTC)))
        assert "complete" not in "".join([line async for line in response.aiter_lines()])


async def test_a_second_connection_init_does_not_renew_a_token(stack: Stack, practice: Practice) -> None:
    async with LiveClient(await stack.api(), token_for(practice)) as client:
        payload = f'{{"Authorization": "Bearer {token_for(practice)}"}}'
        await client.socket.send(f'{{"type": "connection_init", "payload": {payload}}}')
        await client.socket.wait_closed()
        assert client.socket.close_code == 4429


async def test_what_is_known_goes_on_while_the_database_is_away(
    stack: Stack, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await stack.client(await stack.api(), practice)
    revoked, kept = token_for(practice), token_for(practice)
    await run_revoke(stack.database_url, practice.id, Revocation(token_id_of(revoked), None, datetime.now(UTC)))
    await until(lambda: _not(holds(client, revoked)))

    async def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("api.revocations.list_revocations", fail)
    await asyncio.sleep(0.2)
    assert (await holds(client, kept), await holds(client, revoked)) == (True, False)


async def _not(answer: Any) -> bool:
    return not await answer


async def test_a_revocation_is_in_the_audit_trail(stack: Stack, practice: Practice) -> None:
    told = await run_revoke(stack.database_url, practice.id, Revocation(None, "ada", NOW))
    assert told == (
        "Revoked at Northgate Practice: the tokens of ada issued before 2026-11-24T12:00:00+00:00. "
        "API processes refuse them within 5 seconds, and close their sockets within 10."
    )
    async with stack.database.tenant(practice.id) as connection:
        deeds = await connection.fetch("SELECT subject, action, object_kind FROM audit_entry")
    assert [tuple(deed) for deed in deeds] == [("carepost revoke", "revoke", "Token")]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ((None, None, None), "Say which tokens"),
        (("ada", "x", None), "names one token alone"),
        ((None, "x", "2026-01-01T00:00:00Z"), "names one token alone"),
        ((None, None, "yesterday"), "is no time"),
        ((None, None, "2026-01-01T00:00:00"), "needs its offset"),
        ((None, None, "2026-11-24T12:00:01Z"), "in the future"),
    ],
)
def test_options_that_mean_nothing_are_refused(given: tuple[Any, Any, Any], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        read_revocation(*given, NOW)


def test_options_say_which_tokens_are_meant() -> None:
    assert read_revocation("ada", None, None, NOW) == Revocation(None, "ada", NOW)
    assert read_revocation(None, "x", None, NOW) == Revocation("x", None, NOW)
    assert read_revocation(None, None, "2026-01-01T01:00:00+01:00", NOW) == Revocation(
        None, None, datetime(2026, 1, 1, tzinfo=UTC)
    )


async def test_of_many_who_come_at_once_one_looks_anew(
    stack: Stack, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def look(pool: Pool, practice_id: PracticeId) -> Sequence[Revocation]:
        assert not asked.is_set()
        asked.set()
        await go_on.wait()
        return []

    revocations = Revocations(stack.database)
    principal = Principal("ada", practice.id, Role.STAFF, 0)
    await revocations.check(principal)
    monkeypatch.setattr("api.revocations.REMEMBER", 60)
    monkeypatch.setattr("api.revocations.list_revocations", look)
    revocations._known[practice.id] = replace(revocations._known[practice.id], read_at=-60.0)
    first = asyncio.create_task(revocations.check(principal))
    await asyncio.wait_for(asked.wait(), PATIENCE)
    await asyncio.wait_for(asyncio.gather(*(revocations.check(principal) for _ in range(20))), PATIENCE)
    assert not first.done()
    go_on.set()
    await first
