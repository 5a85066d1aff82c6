"""The demo's life: emails that keep moving, written as a front-end would write them, by GraphQL."""

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import Any, Final

import httpx2

from carepost.seed import PRACTICE
from carepost.seed_texts import LETTERS

_FIRST_PAUSE: Final = 0.7
_PAUSE: Final = (6.0, 18.0)

# At first, within a minute, one of each outcome, each vendor among them: patient and provider.
_FIRST: Final = (
    ("Kofi Missed", "postmark"),
    ("Chloe Proxy", "mailgun"),
    ("Hugo Latebounce", "mailgun"),
    ("Elif Suppressed", "resend"),
    ("Grace Deferred", "postmark"),
    ("Ada Opened", "resend"),
    ("Jonas Silent", "mailgun"),
    ("Daniel Bounced", "postmark"),
    ("Ines Complained", "postmark"),
    ("Farid Softbounce", "sendgrid"),
    ("Lena Autoreply", "amazon_ses"),
    ("Noah Full", "resend"),
    ("Mina Unsubscribed", "mailgun"),
    ("Ben Delivered", "amazon_ses"),
)

_SEND: Final = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id } errors { field message code } }
}"""
_NAMES: Final = """{ patients(first: 100) { nodes { id name } } sendingAccounts { id provider } }"""


async def trickle(url: str, token: str) -> None:
    """Writes one email of each outcome, and then one to somebody every few seconds."""
    headers = {"authorization": f"Bearer {token}"}
    chance = random.Random()  # noqa: S311 - a story
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=10, trust_env=False) as client:
        found = (await client.post("/graphql", json={"query": _NAMES})).json()["data"]
        patients = {patient["name"]: patient for patient in found["patients"]["nodes"]}
        providers = {account["provider"]: account["id"] for account in found["sendingAccounts"]}
        for name, provider in _FIRST:
            await _write(client, chance, patients[name], providers[provider])
            await asyncio.sleep(_FIRST_PAUSE)
        while True:
            account = chance.choice([None, *(each["id"] for each in found["sendingAccounts"])])
            await _write(client, chance, chance.choice(list(patients.values())), account)
            await asyncio.sleep(chance.uniform(*_PAUSE))


async def _write(
    client: httpx2.AsyncClient, chance: random.Random, patient: Mapping[str, Any], account: str | None
) -> None:
    letter = chance.choice(LETTERS)
    text = letter.text.format(name=patient["name"], practice=PRACTICE)
    wish = {"patientId": patient["id"], "accountId": account, "subject": letter.subject, "text": text}
    with contextlib.suppress(httpx2.TransportError):
        await client.post("/graphql", json={"query": _SEND, "variables": {"input": wish}})
