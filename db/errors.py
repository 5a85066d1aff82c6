"""Every error of the store.

x StoreError
  + MigrationRefused   the database's history and this program's don't fit together
  + SealBroken         sealed bytes don't open: another key, another row, or tampering
  + NotMigrated        the database lacks this program's migrations
"""


class StoreError(Exception):
    """Base of what the store raises."""


class MigrationRefused(StoreError):
    """An applied migration was edited, or the database is newer than this program."""


class NotMigrated(StoreError):
    """The database has not been migrated to this program's version; run `carepost migrate`."""


class SealBroken(StoreError):
    """Sealed bytes can't be opened with any of the keys, or belong to another row."""
