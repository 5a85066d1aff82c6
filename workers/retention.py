"""Retention: stored webhooks and parked events are removed when they are past their time.

Webhooks that are still to be read never are, nor is evidence.
"""

import asyncio
from datetime import datetime
from typing import Final

import structlog

from db import inbox, parked
from db.pool import Database

BATCH: Final = 1000
_log = structlog.get_logger("carepost.retention")


async def remove_old(database: Database, before: datetime, stop: asyncio.Event) -> int:
    """Removes what came before a time, batch by batch, each in a transaction of its own; returns how many webhooks."""
    for practice_id in await parked.find_practices_with_parked(database.dispatcher, before=before):
        given_up, count = 0, BATCH
        while count == BATCH and not stop.is_set():
            async with database.tenant(practice_id) as connection:
                count = await parked.remove_parked(connection, practice_id, before, BATCH)
            given_up += count
        _log.info("parked events were given up", practice=str(practice_id), events=given_up)
    total = 0
    # A round finds some of the practices; one that removes nothing is the last.
    while not stop.is_set():
        removed = 0
        for practice_id in await inbox.find_practices_with_old(database.dispatcher, before):
            count = BATCH
            while count == BATCH and not stop.is_set():
                async with database.tenant(practice_id) as connection:
                    count = await inbox.remove_old(connection, practice_id, before, BATCH)
                removed += count
        if not removed:
            break
        total += removed
    if total:
        _log.info("webhooks past their time were removed", webhooks=total)
    return total
