"""Every error of the store.

x StoreError
  + MigrationRefused   the database's history and this program's don't fit together
  + SealBroken         sealed bytes don't open: another key, another row, or tampering
  + NotMigrated        the database lacks this program's migrations
  + OutOfReach         Postgres could not be reached when the process started, for as long as it waited
"""

from typing import Final

import asyncpg

UNREACHABLE: Final = (
    OSError,  # of which a TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises where Postgres is away, is starting or stopping, went away in the middle of a statement, has no
room left (disk, memory, connections), or ended a transaction that slept: the same may work later. An InterfaceError is
one because a pool says so of a connection that was lost."""


BUSY: Final = (
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,
)
"""What asyncpg raises where others were in the way: a statement's time was up, or Postgres ended one of two
transactions that waited for each other. The same may work later."""


class StoreError(Exception):
    """Base of what the store raises."""


class MigrationRefused(StoreError):
    """An applied migration was edited, or the database is newer than this program."""


class NotMigrated(StoreError):
    """The database has not been migrated to this program's version; run `carepost migrate`."""


class OutOfReach(StoreError):
    """Postgres could not be reached within the time that a process waits for it when it starts."""


class SealBroken(StoreError):
    """Sealed bytes can't be opened with any of the keys, or belong to another row."""
