"""Every vendor of the sandbox with Carepost's own provider: written apart, from the vendor's pages, so that the two
check each other."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from carepost.sandbox.outcomes import OUTCOMES
from carepost.sandbox.vendors import VENDORS
from db.practices import Practice
from mail.providers import PROVIDERS
from tests.acceptance.test_journeys import READ, send
from tests.support.practice import make_patient
from tests.support.stack import GraphQLClient, Stack, until

EVIDENCE = "query ($id: ID!) { message(id: $id) { status events(first: 50) { nodes { kind source } } } }"
# Status and explanation of each address, at all vendors.
FATES: Mapping[str, tuple[str, str]] = {
    "delivered": ("DELIVERED", "DELIVERED"),
    "opened": ("OPENED", "OPENED"),
    "machine-open": ("DELIVERED", "LOADED_BY_PROXY"),
    "bounced": ("NOT_DELIVERED", "ADDRESS_UNKNOWN"),
    "full": ("NOT_DELIVERED", "MAILBOX_FULL"),
    "soft": ("NOT_DELIVERED", "SOFT_BOUNCE"),
    "suppressed": ("NOT_DELIVERED", "SUPPRESSED"),
    "deferred": ("DELIVERED", "DELIVERED"),
    "late-bounce": ("NOT_DELIVERED", "RETURNED_AFTER_DELIVERY"),
    "auto-reply": ("DELIVERED", "DELIVERED"),
    "complained": ("DELIVERED", "COMPLAINED"),
    "unsubscribed": ("DELIVERED", "UNSUBSCRIBED"),
    "silent": ("SENT", "AWAITING_ANSWER"),
    "missed": ("SENT", "AWAITING_ANSWER"),
}
# Where a vendor says less, or says it otherwise.
ELSEWHERE: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "amazon_ses": {
        "soft": ("NOT_DELIVERED", "REFUSED_AS_SPAM"),  # as for Mailgun
        "unsubscribed": ("DELIVERED", "DELIVERED"),
    },
    "mailgun": {"soft": ("NOT_DELIVERED", "REFUSED_AS_SPAM")},  # it has given up, so the destination's words count
    "postmark": {"suppressed": ("FAILED", "REFUSED")},  # when it is sent
    "resend": {
        "machine-open": ("OPENED", "OPENED"),  # an open says nothing of who opened
        "unsubscribed": ("DELIVERED", "DELIVERED"),
    },
    "sendgrid": {},
}


async def fates(client: GraphQLClient, sent: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    found = {}
    for local, message_id in sent.items():
        message = (await client(READ, id=message_id))["message"]
        found[local] = (message["status"], message["explanation"]["code"])
    return found


@pytest.mark.parametrize("vendor", list(VENDORS))
async def test_every_address_gets_its_status_through_every_vendor(
    stack: Stack, practice: Practice, vendor: str
) -> None:
    base_url = await stack.sandbox()
    api = await stack.api(sns_url=base_url)
    await stack.worker(sns_url=base_url)
    await stack.account(practice, api, base_url, vendor)
    client = await stack.client(api, practice)
    sent: dict[str, str] = {}
    for local in OUTCOMES:
        await make_patient(stack.database, practice, f"{local}@sandbox.example")
    if vendor == "amazon_ses":  # SNS posts nothing until its subscription is confirmed
        await until(lambda: confirmed(stack, practice))
    patients = (await client("{ patients(first: 50) { nodes { id email } } }"))["patients"]["nodes"]
    for patient in patients:
        sent[patient["email"].partition("@")[0]] = await send(client, patient["id"])
    expected = {**FATES, **ELSEWHERE[vendor]}
    found: dict[str, tuple[str, str]] = {}

    async def settled() -> bool:
        found.update(await fates(client, sent))
        return found == expected

    try:
        await until(settled, 15)
    except TimeoutError:
        wrong = {local: (found[local], expected[local]) for local in expected if found.get(local) != expected[local]}
        raise AssertionError(f"found and expected: {wrong}") from None


ASKABLE = [vendor for vendor in VENDORS if PROVIDERS[vendor].capabilities.asking]


@pytest.mark.parametrize("vendor", ASKABLE)
async def test_what_no_webhook_tells_is_found_by_asking(stack: Stack, practice: Practice, vendor: str) -> None:
    base_url = await stack.sandbox()
    api = await stack.api(sns_url=base_url)
    soon = timedelta(seconds=0.5)
    await stack.worker(sns_url=base_url, ask_after=soon, look_every=soon)
    await stack.account(practice, api, base_url, vendor)
    client = await stack.client(api, practice)
    await make_patient(stack.database, practice, "missed@sandbox.example")
    [patient] = (await client("{ patients(first: 2) { nodes { id } } }"))["patients"]["nodes"]
    message_id = await send(client, patient["id"])

    async def told() -> dict[str, Any] | None:
        message: dict[str, Any] = (await client(EVIDENCE, id=message_id))["message"]
        return message if message["status"] == "DELIVERED" else None

    message = await until(told)
    sources = [event["source"] for event in message["events"]["nodes"] if event["kind"] == "DELIVERED"]
    assert sources == ["POLL"]


async def confirmed(stack: Stack, practice: Practice) -> bool:
    """Whether SNS's question was answered: the announcement that follows it has come."""
    async with stack.database.tenant(practice.id) as connection:
        return bool(await connection.fetchval("SELECT count(*) >= 2 FROM webhook_delivery"))
