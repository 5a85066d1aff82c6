"""`carepost import`: patients from a CSV file (RFC 4180, UTF-8) with the columns name, email and, if it is there,
open_tracking."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from carepost.config import ConfigError, Settings
from db.audit import record_deeds
from db.patients import NewPatient, insert_patients
from db.pool import Database, PoolSize
from mail.errors import InvalidEmail
from mail.ids import PracticeId
from mail.message import check_address, check_name

_BATCH: Final = 500
_SHOWN: Final = 20
_YES: Final = frozenset({"", "1", "true", "yes", "y"})
_NO: Final = frozenset({"0", "false", "no", "n"})


@dataclass(slots=True)
class Imported:
    """What came of it: patients made, those that were there already, and lines that say no patient."""

    made: int = 0
    known: int = 0
    refused: list[str] = field(default_factory=list)


async def run_import(settings: Settings, practice_id: PracticeId, path: Path, *, dry_run: bool) -> Imported:
    """Imports the patients of a file. A patient of the same name and address is left as they are, so that a file may be
    imported twice. A line that can't be read is told and left out."""
    console = Console(stderr=True)
    url = settings.needed_database_url()
    imported = Imported()
    batches = _batches(path, imported)
    first = next(batches, [])  # a file that is none is refused before anything is begun
    async with Database(url, PoolSize(1, 2)) as database:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Importing", total=None)
            for batch in chain([first], batches):
                made = await _store(database, practice_id, batch, dry_run=dry_run)
                imported.made += made
                imported.known += len(batch) - made
                progress.update(task, advance=len(batch))
    for problem in imported.refused[:_SHOWN]:
        console.print(problem, style="red", highlight=False, markup=False, soft_wrap=True)
    if len(imported.refused) > _SHOWN:
        console.print(f"... and {len(imported.refused) - _SHOWN} more lines.", style="red", highlight=False)
    verb = "Would make" if dry_run else "Made"
    console.print(
        f"{verb} {imported.made} patients; {imported.known} were there already; "
        f"{len(imported.refused)} lines left out.",
        highlight=False,
        soft_wrap=True,
    )
    return imported


async def _store(database: Database, practice_id: PracticeId, batch: Sequence[NewPatient], *, dry_run: bool) -> int:
    async with database.app.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("SELECT set_config('carepost.practice_id', $1, true)", str(practice_id))
            made = await insert_patients(connection, practice_id, batch)
            await record_deeds(connection, practice_id, "carepost import", "createPatient", "Patient", made)
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if dry_run else transaction.commit())
    return len(made)


def _batches(path: Path, imported: Imported) -> Iterator[list[NewPatient]]:
    """The patients of a file, in batches; what can't be read is noted by its line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
            if not {"name", "email"} <= columns.keys():
                raise ConfigError(f"{path.name} has no columns name and email in its first line.")
            batch: list[NewPatient] = []
            for row in rows:
                values = {name: (row.get(column) or "").strip() for name, column in columns.items()}
                try:
                    batch.append(_patient(values))
                except InvalidEmail as problem:
                    imported.refused.append(f"line {rows.line_num}: {problem.field}: {problem.message}")
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
            if batch:
                yield batch
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} could not be read as CSV in UTF-8: {error}") from error


def _patient(values: dict[str, str]) -> NewPatient:
    consent = values.get("open_tracking", "").lower()
    if consent not in _YES | _NO:
        raise InvalidEmail("open_tracking", "INVALID_VALUE", "Write yes or no.")
    return NewPatient(check_name("name", values["name"]), check_address("email", values["email"]), consent in _YES)
