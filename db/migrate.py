"""Migrations: numbered SQL files, applied in order, each in a transaction of its own, by one runner at a time.

Their checksums are kept, and a file that was edited after it was applied is refused. `migrate` refuses a database that
knows more files than this program. To serve on one is another thing: while a release rolls out, its migrations stand
and programs of the release before still run. They may, unless a file says otherwise by its first line,
`-- needs: N`, which turns away programs that don't know migration N.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import asyncpg

from db.errors import MigrationRefused, NotMigrated
from db.pool import Connection

_NEEDS = re.compile(r"-- needs: (\d+)\n")
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_LOCK: Final = 0x63617265_706F7374  # "carepost"
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    needs integer NOT NULL DEFAULT 0
);
ALTER TABLE migration ADD COLUMN IF NOT EXISTS needs integer NOT NULL DEFAULT 0;
"""
# By names, and `needs` in a way that an older table understands: a process that asks every few seconds must not stumble
# when the table changes under its prepared statement.
_HISTORY: Final = (
    "SELECT number, name, checksum, coalesce((to_jsonb(m) ->> 'needs')::integer, 0) AS needs FROM migration m"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file; `checksum` is SHA-256 of its text with LF line ends, in hex."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()

    @property
    def needs(self) -> int:
        """The number that programs must know to work with the database from this migration on."""
        found = _NEEDS.match(self.sql.replace("\r\n", "\n"))
        return int(found[1]) if found else 0


def migrations() -> Sequence[Migration]:
    """The program's migrations, in order."""
    found = [
        Migration(int(match[1]), entry.name, entry.read_text("utf-8"))
        for entry in files("db").joinpath("migrations").iterdir()
        if (match := _NAME.fullmatch(entry.name))
    ]
    return sorted(found, key=lambda migration: migration.number)


async def migrate(url: str, known: Sequence[Migration] | None = None) -> Sequence[Migration]:
    """Brings the database up to date as its owner; returns what was applied.

    Raises `MigrationRefused`. Safe to run from several processes at once: the later ones wait.
    """
    known = migrations() if known is None else known
    connection = await asyncpg.connect(url, server_settings={"application_name": "carepost migrate"})
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        applied = {row["number"]: row for row in await connection.fetch(_HISTORY)}
        _check_edited(applied, known)
        if newer := _newer(applied, known):
            raise MigrationRefused(
                f"The database is newer than this program: it has {newer[0]['name']}. Upgrade Carepost."
            )
        fresh = [migration for migration in known if migration.number not in applied]
        for migration in fresh:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO migration (number, name, checksum, needs) VALUES ($1, $2, $3, $4)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                    migration.needs,
                )
        await connection.execute("SELECT create_event_partitions(now() + interval '1 year')")
        # The application asks for it to know whether it fits the database.
        await connection.execute("GRANT SELECT ON migration TO carepost_app")
        return fresh
    finally:
        await connection.close()


async def check_migrated(connection: Connection) -> str | None:
    """Raises `NotMigrated` or `MigrationRefused` unless this program works with the database; gives the name of the
    newest migration that it doesn't know, if there is one."""
    try:
        rows = await connection.fetch(_HISTORY)
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError) as error:
        raise NotMigrated("The database is empty; run `carepost migrate`.") from error
    applied = {row["number"]: row for row in rows}
    known = migrations()
    _check_edited(applied, known)
    if missing := [migration.name for migration in known if migration.number not in applied]:
        raise NotMigrated(f"The database lacks {', '.join(missing)}; run `carepost migrate`.")
    newer = _newer(applied, known)
    for row in newer:
        if row["needs"] > known[-1].number:
            raise MigrationRefused(f"The database is too new for this program, by {row['name']}. Upgrade Carepost.")
    return newer[-1]["name"] if newer else None


def _newer(applied: Mapping[int, asyncpg.Record], known: Sequence[Migration]) -> Sequence[asyncpg.Record]:
    """What was applied and isn't known here, in order."""
    numbers = {migration.number for migration in known}
    return [row for number, row in sorted(applied.items()) if number not in numbers]


def _check_edited(applied: Mapping[int, asyncpg.Record], known: Sequence[Migration]) -> None:
    for migration in known:
        row = applied.get(migration.number)
        if row is not None and migration.checksum != row["checksum"]:
            raise MigrationRefused(
                f"{migration.name} was edited after it was applied. Restore it, and put the change into a new file."
            )
