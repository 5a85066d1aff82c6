"""Webhook secrets, remembered for seconds: looking one up costs as much as storing the webhook."""

import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from db import accounts
from db.pool import Database
from db.sealing import Sealer
from mail.ids import PracticeId

_REMEMBER: Final = 5.0
"""Seconds. So long may a secret hold after it was withdrawn through another API process; here it ends at once."""
_LOOK_AGAIN: Final = 0.05
"""Seconds. So late may a new secret hold; a flood of forgeries costs an account no more look-ups than that."""
_REMEMBERED: Final = 10_000

_Key = tuple[PracticeId, UUID, str]


class WebhookSecrets:
    """The secrets that may verify a webhook of an account, newest first."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._known: dict[_Key, tuple[Sequence[str] | None, float]] = {}

    async def find(self, practice_id: PracticeId, account_id: UUID, provider: str) -> Sequence[str] | None:
        """None when there's no such account there."""
        known = self._known.get((practice_id, account_id, provider))
        if known is not None and time.monotonic() < known[1] + _REMEMBER:
            return known[0]
        return await self._look_up((practice_id, account_id, provider))

    async def look_again(self, practice_id: PracticeId, account_id: UUID, provider: str) -> Sequence[str] | None:
        """The same, looked up anew unless that was done just now."""
        known = self._known.get((practice_id, account_id, provider))
        if known is not None and time.monotonic() < known[1] + _LOOK_AGAIN:
            return known[0]
        return await self._look_up((practice_id, account_id, provider))

    def forget(self, practice_id: PracticeId, account_id: UUID, provider: str) -> None:
        """After a change of them."""
        self._known.pop((practice_id, account_id, provider), None)

    async def _look_up(self, key: _Key) -> Sequence[str] | None:
        asked = time.monotonic()
        secrets = await accounts.find_webhook_secrets(self._database.app, self._sealer, *key)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = (secrets, asked)
        return secrets
