"""The two journeys, end to end: an email is sent, and what became of it is learned."""

from datetime import date, timedelta
from typing import Any

import pytest

from db.practices import Practice
from tests.support.practice import make_patient
from tests.support.stack import GraphQLClient, Stack, until

SEND = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id status } errors { field message code } }
}"""
READ = """query ($id: ID!) { message(id: $id) {
  status statusLabel explanation { code text nextStep } failure { kind smtpCode enhancedCode reason }
  deliveredAt openedAt notDeliveredAt sentAt
  events { nodes { kind source machine detail } }
} }"""


async def send(client: GraphQLClient, patient_id: str, **more: Any) -> str:
    wish = {"patientId": patient_id, "subject": "Your results", "text": "Please call us.", **more}
    answer = (await client(SEND, input=wish))["sendMessage"]
    assert answer["errors"] == []
    assert answer["message"]["status"] in {"QUEUED", "SENT"}  # a worker may be as quick as the answer
    return str(answer["message"]["id"])


async def settled(client: GraphQLClient, message_id: str, status: str, code: str, kinds: set[str]) -> dict[str, Any]:
    """The message once it has the status, its explanation and evidence of these kinds. An answer reads the message
    before its events, so a change between the two shows in the second alone."""

    async def look() -> dict[str, Any] | None:
        message: dict[str, Any] = (await client(READ, id=message_id))["message"]
        seen = {event["kind"] for event in message["events"]["nodes"]}
        explained = (message["status"], message["explanation"]["code"]) == (status, code)
        return message if explained and kinds <= seen else None

    found: dict[str, Any] = await until(look)
    return found


@pytest.mark.parametrize(
    ("local", "status", "code", "kinds"),
    [
        ("delivered", "DELIVERED", "DELIVERED", {"ACCEPTED", "DELIVERED"}),
        ("opened", "OPENED", "OPENED", {"DELIVERED", "OPENED"}),
        ("machine-open", "DELIVERED", "LOADED_BY_PROXY", {"DELIVERED", "OPENED"}),
        ("bounced", "NOT_DELIVERED", "ADDRESS_UNKNOWN", {"BOUNCED"}),
        ("suppressed", "NOT_DELIVERED", "SUPPRESSED", {"REJECTED"}),
        ("soft", "NOT_DELIVERED", "SOFT_BOUNCE", {"SOFT_BOUNCED"}),
        ("deferred", "DELIVERED", "DELIVERED", {"DEFERRED", "DELIVERED"}),
        ("late-bounce", "NOT_DELIVERED", "RETURNED_AFTER_DELIVERY", {"DELIVERED", "BOUNCED"}),
        ("complained", "DELIVERED", "COMPLAINED", {"DELIVERED", "COMPLAINED"}),
        ("silent", "SENT", "AWAITING_ANSWER", {"ACCEPTED"}),
    ],
)
async def test_an_email_through_an_esp_gets_the_status_its_address_decides(
    stack: Stack, practice: Practice, local: str, status: str, code: str, kinds: set[str]
) -> None:
    api = await stack.api()
    await stack.worker()
    await stack.esp(practice, api)
    client = await stack.client(api, practice)
    patient = await make_patient(stack.database, practice, f"{local}@sandbox.example")
    found = (await client("{ patients { nodes { id } } }"))["patients"]["nodes"]
    message_id = await send(client, found[0]["id"])
    await settled(client, message_id, status, code, kinds)
    assert patient.email == f"{local}@sandbox.example"


async def test_an_email_through_an_own_server_stays_sent_and_says_why(stack: Stack, practice: Practice) -> None:
    api = await stack.api()
    await stack.worker()
    await stack.smtp(practice)
    client = await stack.client(api, practice)
    await make_patient(stack.database, practice)
    found = (await client("{ patients { nodes { id } } }"))["patients"]["nodes"]
    await settled(client, await send(client, found[0]["id"]), "SENT", "OWN_SERVER", {"ACCEPTED"})


async def test_evidence_above_the_ceiling_is_kept_and_does_not_show(stack: Stack, practice: Practice) -> None:
    api = await stack.api(tracking_start=date.today() + timedelta(days=2))
    await stack.worker()
    await stack.esp(practice, api)
    client = await stack.client(api, practice)
    await make_patient(stack.database, practice, "opened@sandbox.example")
    found = (await client("{ patients { nodes { id } } }"))["patients"]["nodes"]
    message_id = await send(client, found[0]["id"])

    async def opened() -> bool:
        async with stack.database.tenant(practice.id) as connection:
            return bool(await connection.fetchval("SELECT true FROM message_event WHERE kind = 'opened'"))

    await until(opened)
    message = (await client(READ, id=message_id))["message"]
    assert (message["status"], message["explanation"]["code"]) == ("SENT", "BEFORE_TRACKING")
    assert (message["deliveredAt"], message["openedAt"]) == (None, None)
    assert {event["kind"] for event in message["events"]["nodes"]} <= {"QUEUED", "ACCEPTED"}
