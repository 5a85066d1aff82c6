"""No patient's data leaves a trace: unmistakable data goes through every journey and failure, by real processes that
log all they can, and is then searched for wherever something could have been written down."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import redis.asyncio

from api.addresses import webhook_url
from api.graphql.ids import global_id
from api.roles import Role
from carepost.embedded import EmbeddedServers
from carepost.sandbox import smtp
from db.practices import Practice
from mail.ids import MessageId
from mail.status import AccountKind
from tests.acceptance.processes import program, serving
from tests.integration.api.hooks import postmark_delivery, postmark_hook, sendgrid_hook
from tests.support.databases import OWN_KEY
from tests.support.practice import make_account, make_delivery, make_patient
from tests.support.stack import JWT_SECRET, GraphQLClient, Stack, token_for, until

CANARY = "Canaryquetzal"
LOCAL = CANARY.lower()
SEND = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { message { id } errors { code } } }"
PATIENT = "mutation ($input: CreatePatientInput!) { createPatient(input: $input) { patient { id } errors { code } } }"
STATUSES = "{ messages(first: 200) { nodes { id recipient status explanation { code } } } }"


def traces(where: str) -> list[str]:
    """Where the canary sings, as it is or in base64, whatever stands before it."""
    lowered = where.lower()
    found = [where[max(0, at - 100) : at + 100] for at in [lowered.find(LOCAL)] if at >= 0]
    for name in (CANARY, LOCAL, CANARY.upper()):
        for before in range(3):
            coded = base64.b64encode(b" " * before + name.encode()).decode()[before and before + 1 : -4]
            found += [f"base64 of {name}"] if coded in where else []
    return found


def test_a_trace_is_found_as_it_is_and_in_base64() -> None:
    assert traces(f"to {CANARY} Jones")
    assert traces(LOCAL.upper())
    for before in ("", "a", "ab", "abc", "abcd"):
        assert traces(base64.b64encode(f"{before}{LOCAL}@sandbox.example".encode()).decode()), before
    assert traces("Kanarienvogel") == []


@contextlib.asynccontextmanager
async def overheard(url: str) -> AsyncIterator[list[str]]:
    """Every command that anybody gives Valkey: keys, jobs, arguments, and what is published."""
    client = redis.asyncio.Redis.from_url(url)
    heard: list[str] = []

    async def listen() -> None:
        async with client.monitor() as monitor:
            async for command in monitor.listen():
                heard.append(str(command["command"]))  # noqa: PERF401 - what was heard so far is looked at

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.3)
    try:
        yield heard
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await client.aclose()


async def send_everything(stack: Stack, practice: Practice, client: GraphQLClient, accounts: dict[str, str]) -> None:
    """An email to each kind of address, through each account."""
    wanted = {
        "sendgrid": ["delivered", "opened", "bounced", "full", "soft", "suppressed", "late-bounce", "complained"],
        "postmark": ["delivered", "bounced", "suppressed"],
        "smtp": ["delivered", "refused", "toolarge", "dropped", "greylisted"],
        "unreachable": ["delivered"],
        "wrong key": ["delivered"],
        "unopened": ["delivered"],
    }
    for account, locals_ in wanted.items():
        for local in locals_:
            email = f"{local}+{LOCAL}@sandbox.example"
            made = (await client(PATIENT, input={"name": f"{CANARY} Jones", "email": email}))["createPatient"]
            wish = {
                "patientId": made["patient"]["id"],
                "accountId": accounts[account],
                "subject": f"Results of {CANARY}",
                "text": f"Dear {CANARY}",
                "html": f"<p>Dear {CANARY}</p>",
            }
            assert (await client(SEND, input=wish))["sendMessage"]["errors"] == []


async def ask_wrongly(client: GraphQLClient) -> list[str]:
    """Operations that are refused; gives the errors that were masked."""
    answers = [
        await client.raw(PATIENT, input={"name": CANARY, "email": f"{CANARY} at home"}),
        await client.raw(PATIENT, input={"name": f"{CANARY}\r\nBcc: x", "email": f"{LOCAL}@sandbox.example"}),
        await client.raw(PATIENT, input={"name": [CANARY], "email": {"a": CANARY}}),
        await client.raw(SEND, input={"patientId": CANARY, "subject": f"{CANARY}\x00", "text": CANARY}),
        await client.raw(f'{{ patients(search: "{CANARY}") {{ {CANARY} }} }}'),
        await client.raw(f'{{ patients(search: "{CANARY}") {{'),
        await client.raw(f'{{ patients(search: "{CANARY}", after: "{CANARY}") {{ nodes {{ id }} }} }}'),
        await client.raw(f'{{ node(id: "{CANARY}") {{ id }} }}'),
        await client.raw(f'{{ patients(search: "{CANARY}") {{ nodes {{ name messages {{ nodes {{ text }} }} }} }} }}'),
    ]
    for body in (f'{{"{CANARY}'.encode(), f'"{CANARY}"'.encode(), b"\xff" + CANARY.encode()):
        headers = {"authorization": f"Bearer {client.token}", "content-type": "application/json"}
        await client.http.post("/graphql", content=body, headers=headers)
    await client.http.get("/graphql", params={"query": f'{{ patients(search: "{CANARY}") {{ nodes {{ id }} }} }}'})
    await client.http.post("/graphql", json={}, headers={"authorization": f"Bearer {CANARY}"})
    errors = [error for answer in answers for error in answer.get("errors", [])]
    return [json.dumps(error) for error in errors if error["extensions"]["code"] == "INTERNAL_ERROR"]


async def post_everything(stack: Stack, practice: Practice, api: str, message_id: UUID) -> None:
    """Webhooks: forged, unreadable, of nobody, and with the canary in every field there is."""
    postmark, sendgrid = await postmark_hook(stack, practice, api), await sendgrid_hook(stack, practice, api)
    said = f"550 5.1.1 <{LOCAL}@sandbox.example>: {CANARY} is unknown here"
    bounce: Any = {
        "RecordType": "Bounce",
        "Type": "HardBounce",
        "TypeCode": 1,
        "ID": 7,
        "MessageID": CANARY,
        "Details": said,
        "Description": said,
        "Email": f"{LOCAL}@sandbox.example",
        "BouncedAt": "2026-03-02T12:00:00Z",
        "Subject": CANARY,
        "Content": said,
        "Metadata": {"carepost_message_id": str(message_id)},
    }
    delivery = {**postmark_delivery(MessageId(message_id)), "Recipient": f"{LOCAL}@sandbox.example"}
    strange = [
        bounce,
        delivery,
        {**bounce, "Metadata": {}},
        {**bounce, "BouncedAt": CANARY},
        {CANARY: CANARY},
        [CANARY],
    ]
    async with httpx2.AsyncClient() as http:
        for body in strange:
            assert (await http.post(postmark.url, json=body, headers=postmark.headers())).status_code == 200
            assert (await http.post(postmark.url, json=body, headers=postmark.headers(CANARY))).status_code == 401
        for raw in (f"{CANARY}".encode(), f'[{{"event": "{CANARY}", "email": "{LOCAL}@a.example"'.encode()):
            assert await sendgrid.post(http, raw) == 200
        event = {"event": "bounce", "reason": said, "email": f"{LOCAL}@sandbox.example", "timestamp": CANARY}
        assert await sendgrid.post(http, [event, {"event": CANARY}, CANARY]) == 200
        await http.post(f"{api}/webhooks/sendgrid/{CANARY}", content=CANARY.encode())


async def test_no_log_key_job_metric_or_metadata_holds_anything_of_a_patient(
    stack: Stack, servers: EmbeddedServers, database_url: str, practice: Practice, folder: Path
) -> None:
    sandbox = await stack.sandbox()
    mail_server = await stack._parts.enter_async_context(smtp.running(smtp.SmtpOptions()))
    settings = {
        "CAREPOST_DATABASE_URL": database_url,
        "CAREPOST_REDIS_URL": servers.redis_url,
        "CAREPOST_SECRET_KEY": OWN_KEY,
        "CAREPOST_JWT_SECRET": JWT_SECRET,
        "CAREPOST_LOG_LEVEL": "debug",
        "CAREPOST_SWEEP_SECONDS": "1",
    }
    texts: dict[str, str] = {}
    async with overheard(servers.redis_url) as heard, serving(folder, **settings) as (api_process, api):
        with program(folder, "worker", **settings) as worker_process:
            # The accounts are pointed at what listens here, besides two that can't work.
            made = {name: await stack.account(practice, api, sandbox, name) for name in ("sendgrid", "postmark")}
            server = {"host": mail_server.host, "port": str(mail_server.port), "security": "none"}
            database = stack.database
            made["smtp"] = await make_account(database, practice, AccountKind.SMTP, credentials=server)
            nobody = server | {"port": "1"}
            made["unreachable"] = await make_account(database, practice, AccountKind.SMTP, credentials=nobody)
            made["wrong key"] = await make_account(
                database, practice, credentials={"api_key": "SG.wrong", "base_url": sandbox}
            )
            made["unopened"] = await make_account(database, practice, AccountKind.SMTP, credentials=server)
            async with database.tenant(practice.id) as connection:
                broken = "UPDATE sending_account SET credentials = '\\x00' WHERE id = $1"
                await connection.execute(broken, made["unopened"].id)
            accounts = {name: global_id("SendingAccount", account.id) for name, account in made.items()}
            async with httpx2.AsyncClient(base_url=api, timeout=20) as http:
                client = GraphQLClient(http, token_for(practice, Role.ADMIN))
                await send_everything(stack, practice, client, accounts)
                masked = await ask_wrongly(client)
                patient = await make_patient(database, practice, f"{LOCAL}@sandbox.example", CANARY)
                message = await database.app.fetchval("SELECT gen_random_uuid()")
                await post_everything(stack, practice, api, message)
                # A webhook that can't be opened again, as after a key was lost.
                delivery = await make_delivery(database, practice, made["sendgrid"].id, CANARY.encode())
                async with database.tenant(practice.id) as connection:
                    await connection.execute("UPDATE webhook_delivery SET body = '\\x00' WHERE id = $1", delivery)

                async def settled() -> bool:
                    nodes = (await client(STATUSES))["messages"]["nodes"]
                    waiting = [node for node in nodes if node["status"] == "QUEUED"]
                    return len(waiting) <= 5 and all(LOCAL in node["recipient"] for node in nodes)

                await until(settled, 30)
                await asyncio.sleep(3)
                statuses = {node["status"] for node in (await client(STATUSES))["messages"]["nodes"]}
                texts["metrics"] = (await http.get("/metrics")).text
                texts["readyz"] = (await http.get("/readyz")).text
            texts["worker"] = worker_process.printed
        texts["api"] = api_process.printed
        texts["valkey"] = "\n".join(heard)
    async with redis.asyncio.Redis.from_url(servers.redis_url) as store:
        texts["keys"] = " ".join([str(key) async for key in store.scan_iter()])
    async with httpx2.AsyncClient(base_url=sandbox) as http:
        kept = (await http.get("/messages")).json()
    texts["metadata"] = json.dumps([message.get("custom_args") for message in kept])
    texts["masked errors"] = " ".join(masked)
    owner = await asyncpg.connect(database_url)
    try:
        noted = await owner.fetch("SELECT to_jsonb(a)::text AS row FROM audit_entry a")
        unread = await owner.fetch("SELECT error FROM webhook_delivery WHERE error IS NOT NULL")
    finally:
        await owner.close()
    texts["audit trail"] = " ".join(row["row"] for row in noted)
    texts["notes of unreadable webhooks"] = " ".join(row["error"] for row in unread)

    # The journeys were made, so that what isn't there could have been.
    assert {"DELIVERED", "OPENED", "NOT_DELIVERED", "FAILED", "SENT"} <= statuses
    assert len(kept) >= 10
    assert len(heard) > 100
    assert "send" in texts["valkey"]
    assert len(unread) >= 3
    assert texts["worker"].count("\n") >= 3
    assert patient.name == CANARY
    assert {name: found for name, text in texts.items() if (found := traces(text))} == {}


def test_addresses_of_webhooks_hold_ids_alone() -> None:
    url = webhook_url("https://a.example", "sendgrid", UUID(int=1), UUID(int=2))  # type: ignore[arg-type]
    assert url == "https://a.example/webhooks/sendgrid/AAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAI"
