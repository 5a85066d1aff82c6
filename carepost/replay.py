"""`carepost replay`: stored webhooks read again, with what that comes to on the terminal."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from carepost.config import ConfigError, Settings
from carepost.processes import told_to_stop
from db.inbox import Stored
from db.migrate import check_migrated
from db.pool import Database, PoolSize
from db.practices import Practice, find_practice
from mail.ids import PracticeId
from mail.status import tracked_from
from workers import jobs
from workers.jobs import Jobs
from workers.replay import Replayer, Report

UNREADABLE: Final = 3
"""Exit code where webhooks remain that can't be read."""
STOPPED: Final = 130


@dataclass(frozen=True, slots=True)
class Resume:
    """Where an earlier replay stopped, as text `practice/webhook`."""

    practice_id: UUID
    delivery_id: UUID

    @classmethod
    def read(cls, text: str) -> "Resume":
        practice, _, delivery = text.partition("/")
        try:
            return cls(UUID(practice), UUID(delivery))
        except ValueError as error:
            raise ConfigError(f"{text!r} is no place to carry on from; a replay that is stopped names one.") from error

    def __str__(self) -> str:
        return f"{self.practice_id}/{self.delivery_id}"


async def run_replay(
    settings: Settings, practices: Sequence[PracticeId], wanted: Stored, resume: Resume | None, *, dry_run: bool
) -> int:
    """Replays, and gives the exit code: 0, 3 where webhooks remain that can't be read, 130 when stopped."""
    stop = told_to_stop()
    console = Console(stderr=True)
    url = settings.needed_database_url()
    total, where, stopped = Report(), resume, False
    async with Database(url, PoolSize(1, 3)) as database, _announcing(settings) as hurry:
        async with database.app.acquire() as connection:
            await check_migrated(connection)
        replayer = Replayer(database, settings.sealer(), hurry, dry_run=dry_run)
        found = [await _known(database, each) for each in sorted(practices)]
        left = [
            (each, resume.delivery_id if resume and each.id == resume.practice_id else None)
            for each in found
            if resume is None or each.id >= resume.practice_id
        ]
        with _progress(console) as progress:
            count = sum([await replayer.count(practice.id, wanted, after) for practice, after in left])
            task = progress.add_task("Reading again", total=count)
            for practice, after in left:
                first_tracked = tracked_from(settings.tracking_start, practice.zone)
                async with contextlib.aclosing(replayer.replay(practice.id, wanted, first_tracked, after)) as pages:
                    async for page in pages:
                        total.add(page.report)
                        where = Resume(practice.id, page.last)
                        progress.update(task, advance=page.report.read)
                        if stopped := stop.is_set():
                            break
                if stopped or (stopped := stop.is_set()):
                    break
    _show(console, total, dry_run=dry_run)
    if stopped:
        carry_on = f" Carry on with the same options and --resume {where}" if where else ""
        console.print(f"Stopped.{carry_on}", highlight=False, soft_wrap=True)
        return STOPPED
    return UNREADABLE if total.unreadable else 0


async def _known(database: Database, practice_id: PracticeId) -> Practice:
    practice = await find_practice(database.app, practice_id)
    if practice is None:
        raise ConfigError(f"There is no practice {practice_id}.")
    return practice


@contextlib.asynccontextmanager
async def _announcing(settings: Settings) -> AsyncIterator[Jobs | None]:
    """Notices to the API's processes. Without a REDIS_URL they see changes by themselves, some seconds later."""
    if settings.redis_url is None:
        yield None
        return
    client = jobs.connect(settings.redis_url)
    try:
        yield Jobs(client, enabled=settings.enqueue)
    finally:
        await client.aclose(close_connection_pool=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip


def _show(console: Console, report: Report, *, dry_run: bool) -> None:
    table = Table(title="What would change; nothing was written" if dry_run else "Replayed", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    would = "would be " if dry_run else ""
    table.add_row("webhooks read", f"{report.read:,}")
    table.add_row(f"events {would}added", f"{report.added:,}")
    table.add_row(f"parked events {would}matched now", f"{report.matched_now:,}")
    table.add_row("webhooks still unreadable, in whole or in part", f"{report.unreadable:,}")
    for (before, after), count in sorted(report.changes.items(), key=lambda change: -change[1]):
        table.add_row(f"messages from {before.label} to {after.label}", f"{count:,}")
    Console().print(table)
