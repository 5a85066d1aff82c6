"""`carepost revoke` and `carepost rotate-keys`, as an operator runs them beside an API and a worker that go on."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx2
import pytest

from api.auth import Role
from api.graphql.ids import global_id
from carepost.config import Settings
from carepost.tokens import make_token
from db.accounts import Account
from db.messages import Body, insert_messages
from db.patients import Patient
from db.practices import Practice
from db.sealing import Sealer
from mail.ids import MessageId
from tests.acceptance.processes import carepost, environment, program, serving, settings_for
from tests.integration.api.sockets import CHANGED, LiveClient
from tests.support.databases import OWN_KEY as OLD
from tests.support.databases import OWN_SEALER
from tests.support.practice import draft_of, make_patient
from tests.support.stack import JWT_SECRET, GraphQLClient, Stack, token_for, until

NEW = "a new secret key of these processes which is long enough"
VIEWER = "{ viewer { subject } }"
SEND = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { message { id } errors { code } } }"
READ = "query ($id: ID!) { message(id: $id) { status text } }"
MESSAGES = 450


async def test_a_revoked_token_is_refused_and_its_socket_closed_and_another_goes_on(
    stack: Stack, practice: Practice, folder: Path
) -> None:
    settings = settings_for(stack, OLD)
    lost = token_for(practice)
    kept = make_token(Settings(jwt_secret=JWT_SECRET), practice.id, Role.STAFF, "another", timedelta(hours=1))
    async with serving(folder, **settings) as (_, url), httpx2.AsyncClient(base_url=url, trust_env=False) as http:

        async def answered(token: str) -> int:
            answer = await http.post("/graphql", json={"query": VIEWER}, headers={"authorization": f"Bearer {token}"})
            return answer.status_code

        async def refused() -> bool:
            return await answered(lost) == 401

        async with LiveClient(url, lost) as theirs, LiveClient(url, kept) as others:
            for client in (theirs, others):
                await client.start(CHANGED)
                await client.settle()
            assert (await answered(lost), await answered(kept)) == (200, 200)
            ran = await carepost(folder, "revoke", "--token-id", lost, **settings)
            assert (ran.code, ran.out) == (0, "")
            assert ran.err.startswith(f"Revoked at {practice.name}: the token ")
            assert lost not in ran.err
            await until(refused)
            async with asyncio.timeout(60):
                await theirs.socket.wait_closed()
            assert (theirs.socket.close_code, theirs.socket.close_reason) == (4403, "Token revoked")
            assert await answered(kept) == 200
            await others.settle()


@pytest.fixture
async def letters(stack: Stack, practice: Practice) -> tuple[Account, Patient, list[MessageId]]:
    """Many messages sealed by the old key, none of them due, and an account whose mail server takes others."""
    account, _ = await stack.smtp(practice)
    patient = await make_patient(stack.database, practice)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    drafts = [
        draft_of(patient, account, body=Body(f"Letter {number}.", None), scheduled_at=tomorrow)
        for number in range(MESSAGES)
    ]
    async with stack.database.tenant(practice.id) as connection:
        await insert_messages(connection, OWN_SEALER, practice.id, drafts)
    return account, patient, sorted(draft.id for draft in drafts)


class Terminal:
    """`carepost rotate-keys` at a terminal, and what that shows."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._ours, theirs = os.openpty()
        os.set_blocking(self._ours, False)
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "carepost", "rotate-keys"],
            cwd=folder,
            env={**environment(folder, settings), "TERM": "xterm", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    async def shows(self, words: str) -> None:
        async def look() -> bool:
            try:
                self.shown += os.read(self._ours, 65536).decode()
            except BlockingIOError:
                pass
            except OSError as ended:
                raise AssertionError(self.shown) from ended
            return words in self.shown

        await until(look, 60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(60)
        os.close(self._ours)


@contextmanager
def rotating(folder: Path, settings: dict[str, str]) -> Iterator[Terminal]:
    terminal = Terminal(folder, settings)
    try:
        yield terminal
    finally:
        terminal.close()


async def sealed_by(stack: Stack, key: str) -> int:
    """How many messages a key has sealed."""
    owner = await asyncpg.connect(stack.database_url)
    try:
        prefix = Sealer([key]).current_prefix
        count: int = await owner.fetchval(
            "SELECT count(*) FROM message WHERE substring(body FROM 1 FOR 5) = $1", prefix
        )
        return count
    finally:
        await owner.close()


async def test_a_rotation_that_is_killed_goes_on_and_in_the_end_the_old_key_is_not_needed(
    stack: Stack, practice: Practice, folder: Path, letters: tuple[Account, Patient, list[MessageId]]
) -> None:
    account, patient, messages = letters
    settings = settings_for(stack, NEW, OLD)
    wish = {
        "patientId": global_id("Patient", patient.id),
        "accountId": global_id("SendingAccount", account.id),
        "subject": "More results",
        "text": "Please call us.",
    }
    async with serving(folder, **settings) as (_, url), httpx2.AsyncClient(base_url=url, trust_env=False) as http:
        client = GraphQLClient(http, token_for(practice))

        async def text_of(number: int) -> str:
            text: str = (await client(READ, id=global_id("Message", messages[number])))["message"]["text"]
            return text

        async def is_sent(message_id: str) -> bool:
            return bool((await client(READ, id=message_id))["message"]["status"] == "SENT")

        with program(folder, "worker", **settings):
            counted = (await carepost(folder, "rotate-keys", "--dry-run", **settings)).err
            total = int(counted.partition(" values are sealed by another key than the first.")[0])
            # Somebody holds a message of the second batch of 200, which makes the rotation wait in the middle.
            holder = await asyncpg.connect(stack.database_url)
            async with holder.transaction():
                await holder.execute("SELECT FROM message WHERE id = $1 FOR UPDATE", messages[300])
                with rotating(folder, settings) as terminal:
                    await terminal.shows(f"{total - MESSAGES + 200}/{total}")
                    terminal.process.send_signal(signal.SIGKILL)
                    terminal.process.wait(60)
            await holder.close()
            assert (await sealed_by(stack, NEW), await sealed_by(stack, OLD)) == (200, MESSAGES - 200)
            assert [await text_of(number) for number in (0, MESSAGES - 1)]
            sent = (await client(SEND, input=wish))["sendMessage"]
            assert sent["errors"] == []
            await until(lambda: is_sent(sent["message"]["id"]), 60)
            ran = await carepost(folder, "rotate-keys", **settings)
            assert (ran.code, ran.out) == (0, "")
            assert f"{MESSAGES - 200} values were sealed anew; all are sealed by the first key." in ran.err
            assert (await sealed_by(stack, NEW), await sealed_by(stack, OLD)) == (MESSAGES + 1, 0)
    alone = settings_for(stack, NEW)
    async with serving(folder, **alone) as (_, url), httpx2.AsyncClient(base_url=url, trust_env=False) as http:
        client = GraphQLClient(http, token_for(practice))
        with program(folder, "worker", **alone):
            texts = {await text_of(number) for number in (0, 199, 200, 300, MESSAGES - 1)}
            assert len(texts) == 5
            assert all(text.startswith("Letter ") for text in texts)
            sent = (await client(SEND, input=wish))["sendMessage"]
            assert sent["errors"] == []
            await until(lambda: is_sent(sent["message"]["id"]), 60)
