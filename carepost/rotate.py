"""`carepost rotate-keys`: everything sealed anew by the first SECRET_KEY, with its progress on the terminal."""

from typing import Final
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from carepost.config import Settings
from db.migrate import check_migrated
from db.pool import Database, PoolSize
from db.practices import list_practices
from db.rotation import SEALED, count_to_seal, seal_anew
from db.sealing import Sealer
from mail.ids import PracticeId

UNOPENED: Final = 3
"""Exit code where rows remain that no key of SECRET_KEY opens."""
_BATCH: Final = 200
_FIRST: Final = UUID(int=0)
_PATIENCE_MS: Final = 600_000
"""For a row that somebody holds: nobody waits for a rotation."""


async def run_rotate(settings: Settings, *, dry_run: bool = False) -> int:
    """Rotates, and gives the exit code: 0, 3 where rows remain that no key opens."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    url, sealer = settings.needed_database_url(), settings.sealer()
    practices = [practice.id for practice in await list_practices(url)]
    async with Database(url, PoolSize(1, 2), statement_timeout_ms=_PATIENCE_MS) as database:
        async with database.app.acquire() as connection:
            await check_migrated(connection)
        total = await _count(database, sealer, practices)
        if dry_run:
            console.print(f"{total} values are sealed by another key than the first.")
            return 0
        with _progress(console) as progress:
            task = progress.add_task("sealing anew", total=total)
            for practice_id in practices:
                for column in SEALED:
                    await _seal_column(database, sealer, practice_id, column, progress, task)
        left = await _count(database, sealer, practices)
    if left:
        console.print(
            f"{left} values were left: no key of CAREPOST_SECRET_KEY opens them, or a process that doesn't have the "
            "first key yet sealed them meanwhile. Restart those, add the missing key, and run this again; until then "
            "keep the old keys."
        )
        return UNOPENED
    console.print(_done(settings, total))
    return 0


def _done(settings: Settings, total: int) -> str:
    if len(settings.secret_key) < 2:
        return f"{total} values were sealed anew. All are sealed by the one key there is."
    return (
        f"{total} values were sealed anew; all are sealed by the first key. Once every API process and worker has it "
        "in the first place, the other keys are no longer needed, but for backups made before: take them out of "
        "CAREPOST_SECRET_KEY."
    )


async def _seal_column(
    database: Database, sealer: Sealer, practice_id: PracticeId, column: str, progress: Progress, task: TaskID
) -> None:
    after: UUID | None = _FIRST
    while after is not None:
        async with database.tenant(practice_id) as connection:
            batch = await seal_anew(connection, sealer, practice_id, column, after, _BATCH)
        progress.advance(task, batch.sealed)
        after = batch.last


async def _count(database: Database, sealer: Sealer, practices: list[PracticeId]) -> int:
    total = 0
    for practice_id in practices:
        async with database.tenant(practice_id) as connection:
            for column in SEALED:
                total += await count_to_seal(connection, sealer, practice_id, column)
    return total


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
