"""`carepost audit`: the audit trail of a practice, printed."""

from collections.abc import Callable

import orjson

from carepost.config import ConfigError
from db.audit import Entry, Wanted, read_trail
from db.migrate import check_migrated
from db.pool import Database, PoolSize
from db.practices import find_practice
from mail.ids import PracticeId


async def run_audit(url: str, practice_id: PracticeId, wanted: Wanted, say: Callable[[str], None]) -> None:
    """Says each entry, in order of time, as a line of JSON; raises `ConfigError` when there's no such practice."""
    async with Database(url, PoolSize(1, 1)) as database:
        async with database.app.acquire() as connection:
            await check_migrated(connection)
        if await find_practice(database.app, practice_id) is None:
            raise ConfigError(f"There is no practice {practice_id}.")
        async with database.tenant(practice_id) as connection:
            async for entry in read_trail(connection, practice_id, wanted):
                say(line(entry))


def line(entry: Entry) -> str:
    """`until` and `times` are left out where there is one moment."""
    shown: dict[str, object] = {"at": entry.at, "subject": entry.subject, "action": entry.action}
    if entry.times > 1:
        shown |= {"until": entry.until, "times": entry.times}
    shown[entry.object_kind] = entry.object_ids
    return orjson.dumps(shown, default=str, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()
