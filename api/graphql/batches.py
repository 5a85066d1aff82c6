"""Batched forms of the resolvers of messages and patients: one look-up for all parents of a list."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import nh3
from strawberry.dataloader import DataLoader

from api.graphql.context import EventsKey, Info, PageKey
from api.graphql.ids import read_event_cursor, read_key_cursor
from api.graphql.types.account import SendingAccount
from api.graphql.types.connection import page_size
from api.graphql.types.event import MessageEventConnection
from api.views import View
from db.messages import MessageFilter as FilterValue

if TYPE_CHECKING:
    from api.graphql.types.message import Explanation, Message, MessageConnection, MessageFilter
    from api.graphql.types.patient import Patient

K = TypeVar("K")
V = TypeVar("V")


async def _found(loader: DataLoader[K, V], keys: Sequence[K]) -> dict[K, V]:
    """What is found by each key, which are looked up once each."""
    once = list(dict.fromkeys(keys))
    return dict(zip(once, await loader.load_many(once), strict=True))


async def explanations(messages: "list[Message]", info: Info) -> "list[Explanation]":
    from api.graphql.types.message import explained, facts_of

    rows = [message.row for message in messages]
    accounts = await _found(info.context.load.account, [row.account_id for row in rows if row.account_kind.tracked])
    now, silence = datetime.now(UTC), info.context.services.config.silence
    return [
        explained(
            facts_of(
                message.row,
                message.limit,
                account.provider if (account := accounts.get(message.row.account_id)) else None,
            ),
            now,
            silence,
        )
        for message in messages
    ]


async def accounts(messages: "list[Message]", info: Info) -> list[SendingAccount]:
    keys: list[UUID] = [message.row.account_id for message in messages]
    made = {key: SendingAccount.of(row) for key, row in (await _found(info.context.load.account, keys)).items() if row}
    return [made[key] for key in keys]


async def texts(messages: "list[Message]", info: Info) -> list[str]:
    bodies = await _found(info.context.load.body, [message.row.id for message in messages])
    info.context.saw(View.BODY, {message.row.patient_id for message in messages})
    return [body.text if (body := bodies[message.row.id]) else "" for message in messages]


async def htmls(messages: "list[Message]", info: Info) -> list[str | None]:
    bodies = await _found(info.context.load.body, [message.row.id for message in messages])
    info.context.saw(View.BODY, {message.row.patient_id for message in messages})
    return [
        nh3.clean(body.html) if (body := bodies[message.row.id]) and body.html is not None else None
        for message in messages
    ]


async def patients(messages: "list[Message]", info: Info) -> "list[Patient]":
    from api.graphql.types.patient import Patient

    keys: list[UUID] = [message.row.patient_id for message in messages]
    made = {key: Patient.of(row) for key, row in (await _found(info.context.load.patient, keys)).items() if row}
    return [made[key] for key in keys]


async def resent(messages: "list[Message]", info: Info) -> "list[Message | None]":
    keys = [message.row.resend_of for message in messages]
    rows = await _found(info.context.load.message, [key for key in keys if key])
    tracked = info.context.first_tracked
    of = type(messages[0]).of
    return [of(row, tracked) if key and (row := rows[key]) else None for key in keys]


async def events(
    messages: "list[Message]", info: Info, first: int = 50, after: str | None = None
) -> list[MessageEventConnection]:
    size = page_size(info, first)
    cursor = read_event_cursor(after)
    keys = [EventsKey(message.row.id, size + 1, cursor, message.limit) for message in messages]
    pages = await _found(info.context.load.events, keys)
    return [MessageEventConnection.from_rows(pages[key], size, after) for key in keys]


async def messages_of(
    patients: "list[Patient]",
    info: Info,
    filter: "MessageFilter | None" = None,
    first: int = 25,
    after: str | None = None,
) -> "Sequence[MessageConnection]":
    from api.graphql.types.message import MessageConnection

    size = page_size(info, first)
    wanted = filter.value() if filter else FilterValue()
    matching = [] if wanted is None else [each for each in patients if wanted.patient_id in {None, each.row.id}]
    found: dict[Any, MessageConnection] = {}
    cursor = read_key_cursor(after) if matching else None
    reached = await info.context.database.horizon.reached()
    if matching:
        assert wanted is not None
        keys = [PageKey(each.row.id, wanted, size + 1, cursor) for each in matching]
        pages = await info.context.load.messages_of.load_many(keys)
        tracked = info.context.first_tracked
        found = {
            key.patient_id: MessageConnection.from_page(page, reached, size, after, tracked)
            for key, page in zip(keys, pages, strict=True)
        }
    if len(found) < len(patients):
        return [found.get(each.row.id) or MessageConnection.empty(reached) for each in patients]
    return [found[each.row.id] for each in patients]
