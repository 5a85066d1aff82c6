"""Sending by GraphQL: what is answered is stored, what is refused leaves nothing, and a key stands for one message."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from api.config import Limits
from api.graphql.ids import global_id
from db.erasing import erase_patient
from db.practices import Practice
from mail.event import EventKind
from mail.status import AccountKind
from tests.integration.api.evidence import Evidence, make_messages
from tests.support.databases import OWN_SEALER
from tests.support.practice import make_account, make_message, make_patient
from tests.support.stack import GraphQLClient, Stack, until

MESSAGE = "id status subject text html recipient scheduledAt resendOf { id } account { id } explanation { code }"
SEND = f"""mutation ($input: SendMessageInput!) {{
  sendMessage(input: $input) {{ message {{ {MESSAGE} }} errors {{ field message code }} }} }}"""
SEND_MANY = """mutation ($input: SendMessagesInput!) {
  sendMessages(input: $input) { messages { id recipient } errors { field message code } } }"""
RESEND = f"""mutation ($input: ResendMessageInput!) {{
  resendMessage(input: $input) {{ message {{ {MESSAGE} }} errors {{ field message code }} }} }}"""
CANCEL = f"""mutation ($input: CancelMessageInput!) {{
  cancelMessage(input: $input) {{ message {{ {MESSAGE} }} errors {{ field message code }} }} }}"""
WISH = {"subject": "Your results", "text": "Please call us."}


async def stored(stack: Stack, practice: Practice) -> int:
    async with stack.database.tenant(practice.id) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM message")
    return count


async def deeds(stack: Stack, practice: Practice) -> list[str]:
    async with stack.database.tenant(practice.id) as connection:
        rows = await connection.fetch("SELECT action FROM audit_entry ORDER BY at, id")
    return [row["action"] for row in rows]


def refusals(payload: dict[str, Any]) -> list[tuple[str | None, str]]:
    assert all(error["message"] for error in payload["errors"])
    return [(error["field"], error["code"]) for error in payload["errors"]]


async def test_a_message_is_stored_as_it_was_written_and_noted(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    wish = {
        **WISH,
        "patientId": global_id("Patient", patient.id),
        "html": "<p>Please <b>call</b></p><script>x</script>",
    }
    payload = (await client(SEND, input=wish))["sendMessage"]
    assert payload["errors"] == []
    message = payload["message"]
    assert message == {
        "id": message["id"],
        "status": "QUEUED",
        "subject": "Your results",
        "text": "Please call us.",
        "html": "<p>Please <b>call</b></p>",
        "recipient": "pat@mail.example",
        "scheduledAt": None,
        "resendOf": None,
        "account": {"id": global_id("SendingAccount", account.id)},
        "explanation": {"code": "QUEUED"},
    }
    assert await deeds(stack, practice) == ["sendMessage"]


async def test_whatever_is_wrong_with_a_message_is_said_by_field_and_nothing_is_stored(
    stack: Stack, practice: Practice, other_practice: Practice
) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    await make_account(stack.database, practice)
    stranger = await make_patient(stack.database, other_practice)
    their_account = await make_account(stack.database, other_practice)
    now = datetime.now(UTC)
    cases: dict[str, tuple[dict[str, Any], list[tuple[str | None, str]]]] = {
        "an unknown patient": ({"patientId": global_id("Patient", uuid4())}, [("patientId", "NOT_FOUND")]),
        "another practice's patient": ({"patientId": global_id("Patient", stranger.id)}, [("patientId", "NOT_FOUND")]),
        "an id of another type": ({"patientId": global_id("Message", patient.id)}, [("patientId", "NOT_FOUND")]),
        "an id that is none": ({"patientId": "7"}, [("patientId", "NOT_FOUND")]),
        "an id beyond ASCII": ({"patientId": "é"}, [("patientId", "NOT_FOUND")]),
        "another practice's account": (
            {"accountId": global_id("SendingAccount", their_account.id)},
            [("accountId", "NOT_FOUND")],
        ),
        "an account that is none": ({"accountId": ""}, [("accountId", "NOT_FOUND")]),
        "an empty subject": ({"subject": " "}, [("subject", "REQUIRED")]),
        "a subject that is too long": ({"subject": "a" * 501}, [("subject", "TOO_LONG")]),
        "CR LF in a subject": ({"subject": "Hello\r\nBcc: x@evil.example"}, [("subject", "INVALID_CHARACTER")]),
        "LF in a subject": ({"subject": "Hello\nBcc: x@evil.example"}, [("subject", "INVALID_CHARACTER")]),
        "NUL in a subject": ({"subject": "a\x00b"}, [("subject", "INVALID_CHARACTER")]),
        "U+2028 in a subject": ({"subject": "a\u2028b"}, [("subject", "INVALID_CHARACTER")]),
        "U+0085 in a subject": ({"subject": "a\u0085b"}, [("subject", "INVALID_CHARACTER")]),
        "NUL in a text": ({"text": "a\x00b"}, [("text", "INVALID_CHARACTER")]),
        "a text that is too long": ({"text": "a" * 1_000_001}, [("text", "TOO_LONG")]),
        "HTML that is too long": ({"html": "a" * 1_000_001}, [("html", "TOO_LONG")]),
        "a time without an offset": ({"sendAt": "2026-12-31T09:00:00"}, [("sendAt", "INVALID_VALUE")]),
        "a time too far away": ({"sendAt": (now + timedelta(days=400)).isoformat()}, [("sendAt", "INVALID_VALUE")]),
        "the end of time": ({"sendAt": "9999-12-31T23:59:59-14:00"}, [("sendAt", "INVALID_VALUE")]),
        "an empty key": ({"idempotencyKey": ""}, [("idempotencyKey", "TOO_LONG")]),
        "an endless key": ({"idempotencyKey": "k" * 201}, [("idempotencyKey", "TOO_LONG")]),
        "a key with a line break": ({"idempotencyKey": "a\nb"}, [("idempotencyKey", "INVALID_CHARACTER")]),
        "several mistakes": (
            {"patientId": "x", "subject": "", "text": "\x00"},
            [("subject", "REQUIRED"), ("text", "INVALID_CHARACTER"), ("patientId", "NOT_FOUND")],
        ),
    }
    found = {}
    for name, (change, _) in cases.items():
        wish = {"patientId": global_id("Patient", patient.id), **WISH, **change}
        payload = (await client(SEND, input=wish))["sendMessage"]
        assert payload["message"] is None, name
        found[name] = refusals(payload)
    assert found == {name: expected for name, (_, expected) in cases.items()}
    assert await stored(stack, practice) == 0
    assert await deeds(stack, practice) == []
    # The beginning of time is past, so it means at once.
    wish = {"patientId": global_id("Patient", patient.id), **WISH, "sendAt": "0001-01-01T00:00:00+14:00"}
    assert (await client(SEND, input=wish))["sendMessage"]["errors"] == []


async def test_a_text_of_10_mb_is_refused_before_it_is_read(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    wish = {"patientId": global_id("Patient", patient.id), "subject": "a", "text": "a" * (10 << 20)}
    answer = await client.raw(SEND, input=wish)
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["REQUEST_TOO_LARGE"]
    assert await stored(stack, practice) == 0


async def test_without_an_account_there_is_nothing_to_send_through(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    payload = (await client(SEND, input={"patientId": global_id("Patient", patient.id), **WISH}))["sendMessage"]
    assert refusals(payload) == [("accountId", "NO_ACCOUNT")]


async def test_the_same_key_twice_gives_the_same_message_and_another_content_is_refused(
    stack: Stack, practice: Practice
) -> None:
    client = await stack.client(await stack.api(), practice)
    ann, bob = [await make_patient(stack.database, practice, f"{name}@mail.example") for name in ("ann", "bob")]
    account = await make_account(stack.database, practice)
    smtp = await make_account(stack.database, practice, AccountKind.SMTP)
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    wish = {**WISH, "patientId": global_id("Patient", ann.id), "idempotencyKey": "k"}
    first = (await client(SEND, input=wish))["sendMessage"]["message"]
    again = (await client(SEND, input={**wish, "accountId": global_id("SendingAccount", account.id)}))["sendMessage"]
    assert (again["message"]["id"], again["errors"]) == (first["id"], [])
    for change in (
        {"patientId": global_id("Patient", bob.id)},
        {"subject": "Other results"},
        {"text": "Please call."},
        {"html": "<p>Please call us.</p>"},
        {"accountId": global_id("SendingAccount", smtp.id)},
    ):
        payload = (await client(SEND, input={**wish, **change}))["sendMessage"]
        assert payload["message"] is None
        assert refusals(payload) == [("idempotencyKey", "IDEMPOTENCY_KEY_REUSED")], change
    scheduled = {**wish, "idempotencyKey": "l", "sendAt": later}
    second = (await client(SEND, input=scheduled))["sendMessage"]["message"]
    assert (await client(SEND, input=scheduled))["sendMessage"]["message"]["id"] == second["id"]
    other_time = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    payload = (await client(SEND, input={**scheduled, "sendAt": other_time}))["sendMessage"]
    assert refusals(payload) == [("idempotencyKey", "IDEMPOTENCY_KEY_REUSED")]
    assert await stored(stack, practice) == 2
    assert await deeds(stack, practice) == ["sendMessage", "sendMessage"]


async def test_a_key_is_a_practice_s_own(stack: Stack, practice: Practice, other_practice: Practice) -> None:
    api = await stack.api()
    ids = []
    for each in (practice, other_practice):
        patient = await make_patient(stack.database, each)
        await make_account(stack.database, each)
        wish = {**WISH, "patientId": global_id("Patient", patient.id), "idempotencyKey": "k"}
        ids.append((await (await stack.client(api, each))(SEND, input=wish))["sendMessage"]["message"]["id"])
    assert ids[0] != ids[1]


async def test_50_identical_calls_at_once_are_one_message(stack: Stack, practice: Practice) -> None:
    clients = [await stack.client(await stack.api(), practice) for _ in range(2)]
    patient = await make_patient(stack.database, practice)
    await make_account(stack.database, practice)
    wish = {**WISH, "patientId": global_id("Patient", patient.id), "idempotencyKey": "k"}
    answers = await asyncio.gather(*(clients[number % 2](SEND, input=wish) for number in range(50)))
    assert {answer["sendMessage"]["message"]["id"] for answer in answers} == {
        answers[0]["sendMessage"]["message"]["id"]
    }
    assert all(answer["sendMessage"]["errors"] == [] for answer in answers)
    assert await stored(stack, practice) == 1
    assert await deeds(stack, practice) == ["sendMessage"]


async def test_a_message_for_later_waits(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    await stack.worker()
    await stack.smtp(practice)
    patient = await make_patient(stack.database, practice)
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    wish = {**WISH, "patientId": global_id("Patient", patient.id)}
    waiting = (await client(SEND, input={**wish, "sendAt": later.isoformat()}))["sendMessage"]["message"]
    assert (waiting["status"], waiting["explanation"]["code"]) == ("QUEUED", "SCHEDULED")
    assert datetime.fromisoformat(waiting["scheduledAt"]) == later
    at_once = (await client(SEND, input=wish))["sendMessage"]["message"]["id"]
    await until(lambda: stands(client, at_once, "SENT"))
    assert await stands(client, waiting["id"], "QUEUED")


async def stands(client: GraphQLClient, message_id: str, status: str) -> bool:
    found = await client("query ($id: ID!) { message(id: $id) { status } }", id=message_id)
    return bool(found["message"]["status"] == status)


async def many(client: GraphQLClient, ids: list[str], **more: Any) -> dict[str, Any]:
    payload: dict[str, Any] = (await client(SEND_MANY, input={"patientIds": ids, **WISH, **more}))["sendMessages"]
    return payload


async def test_an_email_to_many_is_a_message_each_or_none(
    stack: Stack, practice: Practice, other_practice: Practice
) -> None:
    client = await stack.client(await stack.api(limits=Limits(recipients=5)), practice)
    await make_account(stack.database, practice)
    patients = [await make_patient(stack.database, practice, f"p{number}@mail.example") for number in range(4)]
    stranger = await make_patient(stack.database, other_practice)
    ids = [str(global_id("Patient", patient.id)) for patient in patients]
    sent = await many(client, ids, idempotencyKey="k")
    assert [message["recipient"] for message in sent["messages"]] == [patient.email for patient in patients]
    assert await many(client, ids, idempotencyKey="k") == sent
    assert await many(client, ids[::-1], idempotencyKey="k") == {"messages": sent["messages"][::-1], "errors": []}
    assert await many(client, [ids[0], ids[0]], idempotencyKey="k") == {"messages": sent["messages"][:1], "errors": []}
    assert await stored(stack, practice) == 4
    refused = {
        "a stranger among them": (
            await many(client, [ids[0], global_id("Patient", stranger.id), "x"]),
            [("patientIds.1", "NOT_FOUND"), ("patientIds.2", "NOT_FOUND")],
        ),
        "nobody": (await many(client, []), [("patientIds", "TOO_MANY")]),
        "too many": (await many(client, ids * 2), [("patientIds", "TOO_MANY")]),
        "an empty subject": (await many(client, ids, subject=""), [("subject", "REQUIRED")]),
        "a key used for one of them": (
            await many(client, [ids[0]], idempotencyKey="k", text="Other"),
            [("idempotencyKey", "IDEMPOTENCY_KEY_REUSED")],
        ),
    }
    for name, (payload, expected) in refused.items():
        assert payload["messages"] is None, name
        assert refusals(payload) == expected, name
    assert await stored(stack, practice) == 4


async def test_500_patients_are_taken_and_501_are_not(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    await make_account(stack.database, practice)
    async with stack.database.tenant(practice.id) as connection:
        rows = await connection.fetch(
            "INSERT INTO patient (practice_id, name, email) SELECT $1, 'P' || n, 'p' || n || '@mail.example' "
            "FROM generate_series(1, 501) n RETURNING id",
            practice.id,
        )
    ids = [str(global_id("Patient", row["id"])) for row in rows]
    assert refusals(await many(client, ids)) == [("patientIds", "TOO_MANY")]
    assert len((await many(client, ids[:500]))["messages"]) == 500
    assert await stored(stack, practice) == 500


async def test_the_same_bulk_in_another_order_at_the_same_time_is_one_bulk(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    await make_account(stack.database, practice)
    patients = [await make_patient(stack.database, practice, f"p{number}@mail.example") for number in range(40)]
    ids = [str(global_id("Patient", patient.id)) for patient in patients]
    for turn in range(8):
        answers = await asyncio.gather(
            *(many(client, order, idempotencyKey=f"k{turn}") for order in (ids, ids[::-1], ids[20:] + ids[:20]))
        )
        assert [answer["errors"] for answer in answers] == [[], [], []]
        assert {frozenset(message["id"] for message in answer["messages"]) for answer in answers} == {
            frozenset(message["id"] for message in answers[0]["messages"])
        }
    assert await stored(stack, practice) == 8 * 40


async def test_a_message_sent_again_is_a_new_one_that_names_the_old(
    stack: Stack, practice: Practice, other_practice: Practice, evidence: Evidence
) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice, "old@mail.example")
    account = await make_account(stack.database, practice)
    smtp = await make_account(stack.database, practice, AccountKind.SMTP)
    stranger = await make_patient(stack.database, other_practice)
    theirs = await make_message(
        stack.database, other_practice, stranger, await make_account(stack.database, other_practice)
    )
    [message] = await make_messages(stack.database, practice, patient, account, 1)
    await evidence.of(practice, message, EventKind.BOUNCED)
    update = "mutation ($input: UpdatePatientInput!) { updatePatient(input: $input) { errors { code } } }"
    await client(update, input={"patientId": global_id("Patient", patient.id), "email": "new@mail.example"})
    wish = {"messageId": global_id("Message", message), "idempotencyKey": "k"}
    first = (await client(RESEND, input=wish))["resendMessage"]["message"]
    assert first["resendOf"] == {"id": global_id("Message", message)}
    assert (first["status"], first["recipient"]) == ("QUEUED", "new@mail.example")
    assert (first["subject"], first["text"]) == ("Letter 0", "Please call us.")
    assert first["account"] == {"id": global_id("SendingAccount", account.id)}
    assert (await client(RESEND, input=wish))["resendMessage"]["message"]["id"] == first["id"]
    other = {"messageId": global_id("Message", message), "accountId": global_id("SendingAccount", smtp.id)}
    assert (await client(RESEND, input=other))["resendMessage"]["message"]["account"] == {"id": other["accountId"]}
    for unknown in (global_id("Message", theirs), global_id("Message", uuid4()), "x"):
        payload = (await client(RESEND, input={"messageId": unknown}))["resendMessage"]
        assert payload["message"] is None
        assert refusals(payload) == [("messageId", "NOT_FOUND")]
    reused = {"messageId": first["id"], "idempotencyKey": "k"}
    assert refusals((await client(RESEND, input=reused))["resendMessage"]) == [
        ("idempotencyKey", "IDEMPOTENCY_KEY_REUSED")
    ]
    assert await stored(stack, practice) == 3


async def test_a_message_is_cancelled_once_and_before_it_is_sent(
    stack: Stack, practice: Practice, other_practice: Practice, evidence: Evidence
) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    stranger = await make_patient(stack.database, other_practice)
    theirs = await make_message(
        stack.database, other_practice, stranger, await make_account(stack.database, other_practice)
    )
    waiting, sent = await make_messages(stack.database, practice, patient, account, 2)
    await evidence.of(practice, sent, EventKind.ACCEPTED)

    async def cancel(message_id: str) -> dict[str, Any]:
        payload: dict[str, Any] = (await client(CANCEL, input={"messageId": message_id}))["cancelMessage"]
        return payload

    cancelled = await cancel(global_id("Message", waiting))
    assert cancelled["errors"] == []
    assert cancelled["message"]["status"] == "CANCELLED"
    assert cancelled["message"]["explanation"] == {"code": "CANCELLED"}
    refused = {
        global_id("Message", waiting): "NOT_CANCELLABLE",
        global_id("Message", sent): "NOT_CANCELLABLE",
        global_id("Message", theirs): "NOT_FOUND",
        global_id("Message", uuid4()): "NOT_FOUND",
        "x": "NOT_FOUND",
    }
    for message_id, code in refused.items():
        payload = await cancel(message_id)
        assert payload["message"] is None
        assert refusals(payload) == [("messageId", code)]
    assert await deeds(stack, practice) == ["cancelMessage"]


@pytest.mark.parametrize("enqueue", [True, False])
async def test_a_message_is_sent_with_valkey_and_without(stack: Stack, practice: Practice, enqueue: bool) -> None:
    client = await stack.client(await stack.api(enqueue=enqueue), practice)
    await stack.worker(enqueue=enqueue)
    await stack.smtp(practice)
    patient = await make_patient(stack.database, practice)
    wish = {**WISH, "patientId": global_id("Patient", patient.id)}
    sent = (await client(SEND, input=wish))["sendMessage"]["message"]["id"]
    await until(lambda: stands(client, sent, "SENT"))


async def test_nobody_writes_to_a_patient_who_was_erased(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    message = await make_message(stack.database, practice, patient, account)
    erased = await erase_patient(stack.database, OWN_SEALER, practice.id, patient.id, "somebody")
    assert erased is not None
    assert erased.cancelled == 1
    gid = global_id("Patient", patient.id)
    alone = (await client(SEND, input={**WISH, "patientId": gid}))["sendMessage"]
    many = (await client(SEND_MANY, input={**WISH, "patientIds": [gid]}))["sendMessages"]
    again = (await client(RESEND, input={"messageId": global_id("Message", message)}))["resendMessage"]
    assert [refusals(answer) for answer in (alone, many, again)] == [
        [("patientId", "NOT_FOUND")],
        [("patientIds.0", "NOT_FOUND")],
        [("patientId", "NOT_FOUND")],
    ]
    query = "query ($id: ID!) { message(id: $id) { status subject text html recipient patient { name email } } }"
    assert (await client(query, id=global_id("Message", message)))["message"] == {
        "status": "CANCELLED",
        "subject": "",
        "text": "",
        "html": None,
        "recipient": "",
        "patient": {"name": "Erased patient", "email": ""},
    }
