"""The sending accounts of the demo practice: one at each vendor of the sandbox, its own mail server, and a Gmail."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from db.accounts import Account, create_account, list_accounts
from db.ids import uuid7
from db.pool import Database
from db.practices import Practice
from db.sealing import Sealer
from mail.ids import AccountId
from mail.message import Address
from mail.status import AccountKind

# Kind and provider, name, From address and its name; the first is the practice's default.
_ACCOUNTS: Final[Mapping[tuple[AccountKind, str | None], tuple[str, str, str]]] = {
    (AccountKind.ESP, "sendgrid"): (
        "Practice emails (SendGrid)",
        "hello@northgate.example",
        "Northgate Family Practice",
    ),
    (AccountKind.ESP, "postmark"): ("Test results (Postmark)", "results@northgate.example", "Northgate results"),
    (AccountKind.ESP, "amazon_ses"): ("Reminders (Amazon SES)", "reminders@northgate.example", "Northgate reminders"),
    (AccountKind.ESP, "mailgun"): ("Newsletter (Mailgun)", "news@northgate.example", "Northgate news"),
    (AccountKind.ESP, "resend"): ("Online booking (Resend)", "booking@northgate.example", "Northgate booking"),
    (AccountKind.SMTP, None): ("Reception mail server", "reception@northgate.example", "Northgate reception"),
    (AccountKind.GMAIL, None): ("Dr Ashworth's Gmail", "dr.ashworth@northgate.example", "Dr Ruth Ashworth"),
}


@dataclass(frozen=True, slots=True)
class DemoAccounts:
    """The accounts of the demo practice; the first of `esps` is its default."""

    esps: Sequence[Account]
    smtp: Account
    gmail: Account

    @property
    def default(self) -> Account:
        return self.esps[0]

    def any_esp(self, chance: random.Random) -> Account:
        """The default half of the time."""
        return chance.choice((self.default, chance.choice(self.esps)))


async def ensure_accounts(database: Database, sealer: Sealer, practice: Practice) -> DemoAccounts:
    """Gives the accounts, and makes those that a practice of an earlier demo lacks."""
    there = {(account.kind, account.provider): account for account in await list_accounts(database.app, practice.id)}
    async with database.tenant(practice.id) as connection:
        for key, (name, address, sender) in _ACCOUNTS.items():
            if key not in there:
                kind, provider = key
                there[key] = await create_account(
                    connection,
                    sealer,
                    practice.id,
                    AccountId(uuid7(datetime.now(UTC))),
                    kind=kind,
                    provider=provider,
                    name=name,
                    sender=Address(address, sender),
                    reply_to="reception@northgate.example",
                    is_default=provider == "sendgrid",
                    credentials={},
                    webhook_secrets=(),
                )
    return DemoAccounts(
        esps=[there[key] for key in _ACCOUNTS if key[0] is AccountKind.ESP],
        smtp=there[AccountKind.SMTP, None],
        gmail=there[AccountKind.GMAIL, None],
    )
