"""Which accounts a command is about: those of a practice, one, or all."""

from collections.abc import Sequence
from dataclasses import dataclass

from carepost.config import ConfigError
from carepost.given import read_id
from db.accounts import Account, list_accounts
from db.pool import Database
from db.practices import Practice, list_practices


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for; ids as the operator wrote them, None for all."""

    practice: str | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """An account with its practice."""

    practice: Practice
    account: Account


async def chosen_accounts(url: str, database: Database, choice: Choice) -> Sequence[Chosen]:
    """The accounts asked for; `url` must be the owner's. Raises `ConfigError` when there is none such."""
    practice_id = read_id("Practice", choice.practice) if choice.practice is not None else None
    account_id = read_id("SendingAccount", choice.account) if choice.account is not None else None
    found = [
        Chosen(practice, account)
        for practice in await list_practices(url)
        if practice_id in {None, practice.id}
        for account in await list_accounts(database.app, practice.id)
        if account_id in {None, account.id}
    ]
    if not found:
        raise ConfigError("There is no such sending account." if account_id or practice_id else "There is no account.")
    return found
