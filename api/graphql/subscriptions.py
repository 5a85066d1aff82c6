"""Subscription: what is told as it happens."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated

import strawberry

from api.feed import Health
from api.graphql.context import Context, Info
from api.graphql.errors import ApiError
from api.graphql.ids import live_cursor, read_live_cursor, uuid_of
from api.graphql.types.account import SendingAccount
from api.graphql.types.message import Message
from api.subscriber import CursorExpired, SubscriberTooSlow, Watch
from api.views import View, ViewsUnrecorded
from db.accounts import list_accounts
from mail.ids import MessageId, PatientId

_MOST_MESSAGES = 500


@strawberry.type(description="A message whose status, explanation or evidence changed.")
class MessageStatusChanged:
    message: Message = strawberry.field(description="The message as it stands now.")
    cursor: str = strawberry.field(
        description="The last one received, given as `since` after a reconnect, makes the subscription gap-free: "
        "a change may be told twice, none is missed."
    )


@strawberry.type(description="What is told as it happens, over graphql-transport-ws, SSE or multipart.")
class Subscription:
    @strawberry.subscription(
        description="Messages as they change, and new ones: of one patient, of some messages, or of the practice. "
        "For a slow client, changes of one message coalesce to the latest."
    )
    async def message_status_changed(
        self,
        info: Info,
        patient_id: Annotated[strawberry.ID | None, strawberry.argument(description="Of this patient alone.")] = None,
        message_ids: Annotated[
            list[strawberry.ID] | None, strawberry.argument(description="Of these messages alone, at most 500.")
        ] = None,
        since: Annotated[
            str | None,
            strawberry.argument(
                description="First what changed after this cursor: one of this subscription's, or a list's "
                "`liveCursor`. CURSOR_EXPIRED asks to read the list anew."
            ),
        ] = None,
    ) -> AsyncGenerator[MessageStatusChanged, None]:
        context = info.context
        _check_room(info)
        watch = read_watch(patient_id, message_ids)
        changes = context.services.live.subscribe(context.practice_id, watch, read_live_cursor(since))
        context.saw(View.FOLLOW, watch.patients)
        try:
            async for row, position in changes:
                message = Message.of(row, context.first_tracked)
                yield MessageStatusChanged(message=message, cursor=live_cursor(position))
        except CursorExpired as error:
            raise cursor_expired() from error
        except SubscriberTooSlow as error:
            raise too_slow() from error
        finally:
            await changes.aclose()
            with suppress(ViewsUnrecorded):
                context.saw(View.UNFOLLOW, watch.patients)

    @strawberry.subscription(description="Sending accounts whose health changed; first all of them, as they stand.")
    async def account_health_changed(self, info: Info) -> AsyncGenerator[SendingAccount, None]:
        context = info.context
        _check_room(info)
        told: Health = {}
        async for now in context.services.live.watch_health(context.practice_id, partial(_read_health, context)):
            for row, count in now.items():
                if told.get(row) != count:
                    yield SendingAccount.of(row)
            told = now


async def _read_health(context: Context) -> Health:
    rows = await list_accounts(context.database.app, context.practice_id)
    counts = await context.load.health.load_many([row.id for row in rows])
    return dict(zip(rows, counts, strict=True))


def _check_room(info: Info) -> None:
    context = info.context
    limit = context.services.config.limits.subscriptions_per_practice
    if context.services.live.watchers(context.practice_id) >= limit:
        raise ApiError(f"At most {limit} at once of a practice.", "SUBSCRIPTION_LIMIT")


def cursor_expired() -> ApiError:
    return ApiError("What changed since that cursor can't be told: read the list anew.", "CURSOR_EXPIRED")


def too_slow() -> ApiError:
    return ApiError("Read faster, and subscribe again with the last cursor.", "TOO_SLOW")


def read_watch(patient_id: str | None, message_ids: Sequence[str] | None) -> Watch:
    """What is asked for; an id of nothing is watched for too, and never comes."""
    patient_key = uuid_of("Patient", patient_id) if patient_id is not None else None
    if patient_id is not None and patient_key is None:
        raise ApiError("`patientId` is no id of a patient.", "INVALID_ID")
    if message_ids is None:
        return Watch(PatientId(patient_key) if patient_key else None)
    if len(message_ids) > _MOST_MESSAGES:
        raise ApiError(f"At most {_MOST_MESSAGES} messages.", "TOO_MANY")
    keys = [uuid_of("Message", message_id) for message_id in message_ids]
    if None in keys:
        raise ApiError("`messageIds` holds what is no id of a message.", "INVALID_ID")
    return Watch(
        PatientId(patient_key) if patient_key else None, frozenset(MessageId(key) for key in keys if key is not None)
    )
