"""The demo practice: patients, accounts and a history in which every status and explanation occurs.

Everything is written by the same functions that serve: the history's statuses follow from its evidence by the rule.
"""

import random
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from carepost.seed_texts import LETTERS, NAMES, Letter
from db.accounts import Account, create_account
from db.events import Matched, record_events
from db.ids import uuid7
from db.messages import Body, NewMessage, insert_messages
from db.patients import Patient, create_patient
from db.pool import Connection, Database
from db.practices import Practice, create_practice
from db.sealing import Sealer
from mail.event import Event, EventKind, EventSource
from mail.failure import Failure, FailureKind, failure_from_reply
from mail.ids import AccountId, MessageId
from mail.message import Address
from mail.status import AccountKind

PRACTICE: Final = "Northgate Family Practice"
ZONE: Final = ZoneInfo("Europe/London")
ESP_ACCOUNT: Final = "Practice emails (SendGrid)"
SMTP_ACCOUNT: Final = "Reception mail server"
GMAIL_ACCOUNT: Final = "Dr Ashworth's Gmail"

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
}


@dataclass(frozen=True, slots=True)
class DemoAccounts:
    """The accounts of the demo practice."""

    esp: Account
    smtp: Account
    gmail: Account


@dataclass(frozen=True, slots=True)
class _Step:
    """One piece of evidence, `after` so many seconds since the message was queued."""

    kind: EventKind
    after: float
    failure: Failure | None = None
    machine: bool = False
    detail: str = ""
    source: EventSource = EventSource.WEBHOOK


def _esp(*steps: _Step) -> Sequence[_Step]:
    return (_Step(EventKind.ACCEPTED, 0.8, source=EventSource.ATTEMPT), *steps)


def _bounce(reply: str, after: float = 9, kind: FailureKind | None = None, *, soft: bool = False) -> _Step:
    event = EventKind.SOFT_BOUNCED if soft else EventKind.BOUNCED
    return _Step(event, after, failure_from_reply(reply, kind=kind), detail="bounce")


_DELIVERED: Final = _Step(EventKind.DELIVERED, 6, detail="delivered")
_OPENED: Final = _Step(EventKind.OPENED, 5400, detail="open")

# What became of past emails through the ESP, and how often (in parts).
_ESP_LIVES: Final[Sequence[tuple[int, Sequence[_Step]]]] = (
    (34, _esp(_DELIVERED)),
    (46, _esp(_DELIVERED, _OPENED)),
    (8, _esp(_DELIVERED, _Step(EventKind.OPENED, 8, machine=True, detail="open (machine)"))),
    (3, _esp(_Step(EventKind.DEFERRED, 30, detail="deferred"), _Step(EventKind.DELIVERED, 1900, detail="delivered"))),
    (3, _esp(_bounce("550 5.1.1 The email account that you tried to reach does not exist"))),
    (2, _esp(_bounce("550 5.1.2 Host unknown: no MX"))),
    (2, _esp(_bounce("452 4.2.2 The recipient's mailbox is full", soft=True))),
    (1, _esp(_bounce("554 5.7.1 Message refused as spam"))),
    (1, _esp(_bounce("550 5.7.1 Client host [192.0.2.25] blocked using a block list", soft=True))),
    (1, _esp(_bounce("550 5.7.26 Unauthenticated email is not accepted due to the domain's DMARC policy"))),
    (1, _esp(_bounce("552 5.3.4 Message too big for system"))),
    (
        1,
        _esp(_Step(EventKind.REJECTED, 2, Failure(FailureKind.SUPPRESSED, reason="Bounced Address"), detail="dropped")),
    ),
    (1, _esp(_DELIVERED, _bounce("550 5.1.1 Mailbox was closed", 86_000))),
    (1, _esp(_DELIVERED, _OPENED, _bounce("550 5.1.1 Mailbox was closed", 86_000))),
    (1, _esp(_DELIVERED, _Step(EventKind.COMPLAINED, 9000, detail="spamreport"))),
    (1, _esp(_DELIVERED, _OPENED, _Step(EventKind.UNSUBSCRIBED, 9000, detail="unsubscribe"))),
    (1, _esp(_DELIVERED, _Step(EventKind.UNSUBSCRIBED, 9000, detail="unsubscribe"))),
    (1, _esp(_Step(EventKind.AUTO_REPLIED, 40, detail="out of office"), _DELIVERED)),
    (2, _esp()),
    (1, _esp(_Step(EventKind.DEFERRED, 60, detail="deferred"))),
    (
        1,
        (
            _Step(EventKind.ATTEMPT_AMBIGUOUS, 31, detail="the connection ended", source=EventSource.ATTEMPT),
            _Step(EventKind.ACCEPTED, 38, source=EventSource.ATTEMPT),
        ),
    ),
    (
        1,
        (
            _Step(
                EventKind.FAILED,
                1,
                Failure(FailureKind.ACCOUNT, reason="The from address does not match a verified Sender Identity."),
                detail="refused for good",
                source=EventSource.ATTEMPT,
            ),
        ),
    ),
    (1, (_Step(EventKind.CANCELLED, 25, detail="withdrawn by staff", source=EventSource.ATTEMPT),)),
)
_OWN_SERVER_LIFE: Final[Sequence[_Step]] = (
    _Step(EventKind.ACCEPTED, 0.6, detail="250 2.0.0 Ok: queued", source=EventSource.ATTEMPT),
)


async def seed(url: str, database: Database, sealer: Sealer) -> Practice:
    """Writes the demo practice and gives it; `url` is the owner's."""
    practice = await create_practice(url, PRACTICE, ZONE)
    chance = random.Random(20190723)  # noqa: S311 - a story, the same each time
    async with database.tenant(practice.id) as connection:
        accounts = await _accounts(connection, sealer, practice)
        patients = await _patients(connection, practice, chance)
    for year in range(_OLDEST.year, datetime.now(UTC).year + 1):
        async with database.tenant(practice.id) as connection:
            await _history(connection, sealer, practice, accounts, patients, year)
    async with database.tenant(practice.id) as connection:
        await _present(connection, sealer, practice, accounts, patients)
    return practice


async def _accounts(connection: Connection, sealer: Sealer, practice: Practice) -> DemoAccounts:
    async def account(kind: AccountKind, provider: str | None, name: str, sender: Address) -> Account:
        return await create_account(
            connection,
            sealer,
            practice.id,
            AccountId(uuid7(datetime.now(UTC))),
            kind=kind,
            provider=provider,
            name=name,
            sender=sender,
            reply_to="reception@northgate.example",
            is_default=kind is AccountKind.ESP,
            credentials={},
            webhook_secrets=(),
        )

    return DemoAccounts(
        esp=await account(AccountKind.ESP, "sendgrid", ESP_ACCOUNT, Address("hello@northgate.example", PRACTICE)),
        smtp=await account(
            AccountKind.SMTP, None, SMTP_ACCOUNT, Address("reception@northgate.example", "Northgate reception")
        ),
        gmail=await account(
            AccountKind.GMAIL, None, GMAIL_ACCOUNT, Address("dr.ashworth@northgate.example", "Dr Ruth Ashworth")
        ),
    )


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
    lives = [life for weight, life in _ESP_LIVES for _ in range(weight)]
    sent: list[NewMessage] = []
    evidence: list[Matched] = []
    for place in range(count):
        queued_at = begin + (end - begin - timedelta(days=5)) * ((place + chance.random()) / max(count, 1))
        draw = chance.random()
        account = accounts.esp if draw < 0.78 else accounts.smtp if draw < 0.92 else accounts.gmail
        life = chance.choice(lives) if account is accounts.esp else _OWN_SERVER_LIFE
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
    for place, (_, life) in enumerate(_ESP_LIVES):
        patient = first if place % 3 == 0 else patients[place % len(patients)]
        message = _message(
            accounts.esp, patient, LETTERS[place % len(LETTERS)], now - ages[place % 4] - timedelta(minutes=7 * place)
        )
        sent.append(message)
        evidence += [entry for entry in _evidence(message, life) if entry.event.occurred_at < now]
    for place, account in enumerate((accounts.smtp, accounts.gmail)):
        message = _message(account, first, LETTERS[place], now - timedelta(days=6, hours=place))
        sent.append(message)
        evidence += _evidence(message, _OWN_SERVER_LIFE)
    for days, letter in zip((1, 3, 14), LETTERS, strict=False):
        sent.append(_message(accounts.esp, first, letter, now, scheduled_at=now + timedelta(days=days)))
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


def _evidence(message: NewMessage, life: Sequence[_Step]) -> Sequence[Matched]:
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
