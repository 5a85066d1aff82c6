"""One message at a time, by what workers call for many."""

from datetime import timedelta
from uuid import UUID

from db.outbox import AttemptOutcome, Claim, Ending, Lane, claim_due, finish_all
from db.pool import Connection
from mail.event import Event
from mail.ids import PracticeId
from tests.support.databases import OWN_SEALER


async def claim(
    connection: Connection, practice_id: PracticeId, message_id: UUID, lease: timedelta, worker: str = "worker"
) -> Claim | None:
    """Claims the message, which must be the longest due of its account; None when it isn't due."""
    account_id = await connection.fetchval(
        "SELECT account_id FROM message WHERE practice_id = $1 AND id = $2", practice_id, message_id
    )
    claims = await claim_due(connection, OWN_SEALER, Lane(practice_id, account_id), worker, lease, 1)
    assert [claimed.message_id for claimed in claims] in ([], [message_id])
    return claims[0] if claims else None


async def finish(
    connection: Connection, claimed: Claim, outcome: AttemptOutcome, event: Event, their_id: str | None = None
) -> bool:
    """Whether what came of the attempt was written."""
    ending = Ending(claimed, outcome, event, provider_message_id=their_id)
    return bool(await finish_all(connection, claimed.practice_id, [ending]))
