"""Migrations: numbered SQL files, applied in order, each in a transaction of its own, by one runner at a time.

Their checksums are kept; a file that was edited after it was applied, or a database that knows more files than
this program, is refused.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import asyncpg

from db.errors import MigrationRefused, NotMigrated
from db.pool import Connection

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_LOCK: Final = 0x63617265_706F7374  # "carepost"
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file; `checksum` is SHA-256 of its text with LF line ends, in hex."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


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
        applied = {row["number"]: row for row in await connection.fetch("SELECT * FROM migration")}
        _check_history(applied, known)
        fresh = [migration for migration in known if migration.number not in applied]
        for migration in fresh:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                )
        await connection.execute("SELECT create_event_partitions(now() + interval '1 year')")
        # The application asks for it to know whether it fits the database.
        await connection.execute("GRANT SELECT ON migration TO carepost_app")
        return fresh
    finally:
        await connection.close()


async def check_migrated(connection: Connection) -> None:
    """Raises `NotMigrated` or `MigrationRefused` unless the database is exactly at this program's version."""
    try:
        rows = await connection.fetch("SELECT * FROM migration")
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError) as error:
        raise NotMigrated("The database is empty; run `carepost migrate`.") from error
    applied = {row["number"]: row for row in rows}
    known = migrations()
    _check_history(applied, known)
    if missing := [migration.name for migration in known if migration.number not in applied]:
        raise NotMigrated(f"The database lacks {', '.join(missing)}; run `carepost migrate`.")


def _check_history(applied: dict[int, asyncpg.Record], known: Sequence[Migration]) -> None:
    by_number = {migration.number: migration for migration in known}
    for number, row in sorted(applied.items()):
        migration = by_number.get(number)
        if migration is None:
            raise MigrationRefused(f"The database is newer than this program: it has {row['name']}. Upgrade Carepost.")
        if migration.checksum != row["checksum"]:
            raise MigrationRefused(
                f"{migration.name} was edited after it was applied. Restore it, and put the change into a new file."
            )
