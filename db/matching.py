"""Which messages events are about: by our own id, else by the provider's; only among the account's messages."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from db.locks import Locked, lock_messages
from db.pool import Connection
from mail.event import Event
from mail.ids import AccountId, MessageId, PracticeId

Told = tuple[AccountId, Event]
"""An event, and the account whose provider tells of it."""
_TheirId = tuple[AccountId, str | None]


class OutOfOrderError(Exception):
    """More messages were found than are locked, which have to be locked anew with them, all in one order."""


async def match_events(connection: Connection, practice_id: PracticeId, told: Sequence[Told]) -> list[MessageId | None]:
    """The message of each event. Of several with one provider's id it is the last."""
    rows = await connection.fetch(
        "SELECT id, account_id FROM message WHERE practice_id = $1 AND id = ANY($2::uuid[])",
        practice_id,
        [event.message_id for _, event in told if event.message_id is not None],
    )
    accounts = {row["id"]: row["account_id"] for row in rows}
    theirs = await _by_provider_ids(connection, practice_id, _not_own(told, accounts))
    return _messages(told, accounts, theirs)


async def lock_matching(
    connection: Connection, practice_id: PracticeId, told: Sequence[Told]
) -> tuple[list[MessageId | None], dict[MessageId, Locked]]:
    """The same, locking the messages as they are looked up, in the order of their ids. Raises `OutOfOrderError`
    when an event has an id of ours that isn't its message's, and a provider's that is."""
    theirs = await _by_provider_ids(connection, practice_id, [each for each in told if each[1].message_id is None])
    ids = {event.message_id for _, event in told if event.message_id is not None} | set(theirs.values())
    locked = await lock_messages(connection, practice_id, ids)
    accounts = {message_id: message.account_id for message_id, message in locked.items()}
    strangers = [each for each in _not_own(told, accounts) if each[1].message_id is not None]
    theirs |= await _by_provider_ids(connection, practice_id, strangers)
    if not locked.keys() >= set(theirs.values()):
        raise OutOfOrderError
    return _messages(told, accounts, theirs), locked


def _not_own(told: Iterable[Told], accounts: Mapping[MessageId, AccountId]) -> list[Told]:
    return [(account_id, event) for account_id, event in told if not _is_own(account_id, event, accounts)]


def _is_own(account_id: AccountId, event: Event, accounts: Mapping[MessageId, AccountId]) -> bool:
    return event.message_id is not None and accounts.get(event.message_id) == account_id


def _messages(
    told: Iterable[Told], accounts: Mapping[MessageId, AccountId], theirs: Mapping[_TheirId, MessageId]
) -> list[MessageId | None]:
    return [
        event.message_id
        if _is_own(account_id, event, accounts)
        else theirs.get((account_id, event.provider_message_id))
        for account_id, event in told
    ]


async def _by_provider_ids(
    connection: Connection, practice_id: PracticeId, told: Iterable[Told]
) -> dict[_TheirId, MessageId]:
    """The messages that have the provider's ids of some events, with one statement for each account."""
    names: dict[AccountId, list[str]] = defaultdict(list)
    for account_id, event in told:
        if event.provider_message_id is not None:
            names[account_id].append(event.provider_message_id)
    found: dict[_TheirId, MessageId] = {}
    for account_id, of_account in names.items():
        rows = await connection.fetch(
            "SELECT provider_message_id, id FROM message WHERE practice_id = $1 AND account_id = $2 "
            "AND provider_message_id = ANY($3::text[]) ORDER BY id",
            practice_id,
            account_id,
            of_account,
        )
        found |= {(account_id, row["provider_message_id"]): row["id"] for row in rows}
    return found
