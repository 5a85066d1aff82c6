"""The demo practice: patients, accounts and a history in which every status and explanation occurs.

Everything is written by the same functions that serve: the history's statuses follow from its evidence by the rule.
"""

import random
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from carepost.seed_accounts import DemoAccounts, ensure_accounts
from carepost.seed_lives import ESP_LIVES, OWN_SERVER_LIFE, Step
from carepost.seed_texts import LETTERS, NAMES, Letter
from db.accounts import Account
from db.events import Matched, record_events
from db.ids import uuid7
from db.messages import Body, NewMessage, insert_messages
from db.patients import Patient, create_patient
from db.pool import Connection, Database
from db.practices import Practice, create_practice
from db.sealing import Sealer
from mail.event import Event, EventKind
from mail.ids import MessageId
from mail.status import AccountKind

PRACTICE: Final = "Northgate Family Practice"
ZONE: Final = ZoneInfo("Europe/London")

_HISTORY: Final = 320
_OLDEST: Final = datetime(2017, 3, 1, tzinfo=UTC)

# A patient for each address by which the sandbox decides, so that every outcome is a click away.
OUTCOMES: Final[Mapping[str, str]] = {
    "Ada Opened": "opened@sandbox.example",
    "Ben Delivered": "delivered@sandbox.example",
    "Chloe Proxy": "machine-open@sandbox.example",
    "Daniel Bounced": "bounced@sandbox.example",
    "Elif Suppressed": "suppressed@sandbox.example",
    "Farid Softbounce": "soft@sandbox.example",
    "Grace Deferred": "deferred@sandbox.example",
    "Hugo Latebounce": "late-bounce@sandbox.example",
    "Ines Complained": "complained@sandbox.example",
    "Jonas Silent": "silent@sandbox.example",
    "Kofi Missed": "missed@sandbox.example",
    "Lena Autoreply": "auto-reply@sandbox.example",
    "Mina Unsubscribed": "unsubscribed@sandbox.example",
    "Noah Full": "full@sandbox.example",
}


async def seed(url: str, database: Database, sealer: Sealer) -> Practice:
    """Writes the demo practice and gives it; `url` is the owner's."""
    practice = await create_practice(url, PRACTICE, ZONE)
    chance = random.Random(20190723)  # noqa: S311 - a story, the same each time
    accounts = await ensure_accounts(database, sealer, practice)
    async with database.tenant(practice.id) as connection:
        patients = await _patients(connection, practice, chance)
    for year in range(_OLDEST.year, datetime.now(UTC).year + 1):
        async with database.tenant(practice.id) as connection:
            await _history(connection, sealer, practice, accounts, patients, year)
    async with database.tenant(practice.id) as connection:
        await _present(connection, sealer, practice, accounts, patients)
    return practice


async def _patients(connection: Connection, practice: Practice, chance: random.Random) -> Sequence[Patient]:
    people = dict(OUTCOMES)
    for name in NAMES:
        plain = unicodedata.normalize("NFKD", name.lower()).replace("ø", "o").replace("ł", "l")
        local = ".".join("".join(c for c in part if c.isascii() and c.isalpha()) for part in plain.split())
        people[name] = f"{local}@{chance.choice(('mail.example', 'post.example', 'inbox.example'))}"
    return [
        await create_patient(
            connection, practice.id, name, email, open_tracking=name in OUTCOMES or chance.random() > 0.12
        )
        for name, email in people.items()
    ]


async def _history(
    connection: Connection,
    sealer: Sealer,
    practice: Practice,
    accounts: DemoAccounts,
    patients: Sequence[Patient],
    year: int,
) -> None:
    """The past messages of one year."""
    chance = random.Random(year)  # noqa: S311 - as above
    now = datetime.now(UTC)
    begin, end = max(_OLDEST, datetime(year, 1, 1, tzinfo=UTC)), min(now, datetime(year + 1, 1, 1, tzinfo=UTC))
    count = int(_HISTORY * ((end - begin) / (now - _OLDEST)) * (0.5 if year < 2021 else 1.3))
    lives = [life for weight, life in ESP_LIVES for _ in range(weight)]
    sent: list[NewMessage] = []
    evidence: list[Matched] = []
    for place in range(count):
        queued_at = begin + (end - begin - timedelta(days=5)) * ((place + chance.random()) / max(count, 1))
        draw = chance.random()
        account = accounts.any_esp(chance) if draw < 0.78 else accounts.smtp if draw < 0.92 else accounts.gmail
        life = chance.choice(lives) if account.kind is AccountKind.ESP else OWN_SERVER_LIFE
        message = _message(account, chance.choice(patients), chance.choice(LETTERS), queued_at)
        sent.append(message)
        evidence += _evidence(message, life)
    await insert_messages(connection, sealer, practice.id, sent)
    await record_events(connection, practice.id, evidence)


async def _present(
    connection: Connection, sealer: Sealer, practice: Practice, accounts: DemoAccounts, patients: Sequence[Patient]
) -> None:
    """One of each life through the ESP in the last days, for the first patient too, and what still waits."""
    now = datetime.now(UTC)
    sent: list[NewMessage] = []
    evidence: list[Matched] = []
    first = patients[0]
    ages = [timedelta(days=4, hours=3), timedelta(days=2, hours=5), timedelta(hours=30), timedelta(hours=3)]
    for place, (_, life) in enumerate(ESP_LIVES):
        patient = first if place % 3 == 0 else patients[place % len(patients)]
        message = _message(
            accounts.esps[place % len(accounts.esps)],
            patient,
            LETTERS[place % len(LETTERS)],
            now - ages[place % 4] - timedelta(minutes=7 * place),
        )
        sent.append(message)
        evidence += [entry for entry in _evidence(message, life) if entry.event.occurred_at < now]
    for place, account in enumerate((accounts.smtp, accounts.gmail)):
        message = _message(account, first, LETTERS[place], now - timedelta(days=6, hours=place))
        sent.append(message)
        evidence += _evidence(message, OWN_SERVER_LIFE)
    for days, letter in zip((1, 3, 14), LETTERS, strict=False):
        sent.append(_message(accounts.default, first, letter, now, scheduled_at=now + timedelta(days=days)))
    await insert_messages(connection, sealer, practice.id, sent)
    await record_events(connection, practice.id, evidence)


def _message(
    account: Account, patient: Patient, letter: Letter, queued_at: datetime, scheduled_at: datetime | None = None
) -> NewMessage:
    return NewMessage(
        id=MessageId(uuid7(queued_at)),
        patient_id=patient.id,
        account_id=account.id,
        account_kind=account.kind,
        recipient=patient.email,
        subject=letter.subject,
        body=Body(letter.text.format(name=patient.name, practice=PRACTICE), None),
        track_opens=patient.open_tracking,
        queued_at=queued_at,
        scheduled_at=scheduled_at,
    )


def _evidence(message: NewMessage, life: Sequence[Step]) -> Sequence[Matched]:
    """The life's events; opens are not reported where tracking is off, as with a real ESP."""
    return [
        Matched(
            message.id,
            Event(
                kind=step.kind,
                occurred_at=message.queued_at + timedelta(seconds=step.after),
                dedupe_key=f"seed/{place}",
                machine=step.machine,
                failure=step.failure,
                detail=step.detail,
            ),
            step.source,
            message.queued_at + timedelta(seconds=step.after + 1),
        )
        for place, step in enumerate(life)
        if message.track_opens or step.kind is not EventKind.OPENED
    ]
