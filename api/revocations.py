"""Which tokens were revoked, as far as this process knows: looked up anew after seconds, for requests and open sockets
alike."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from api.auth import Principal, Unauthenticated
from db.pool import Database
from db.revocations import Revocation, list_revocations
from mail.ids import PracticeId

REMEMBER: Final = 5.0
"""Seconds. So long may a token hold after it was revoked, on a socket twice as long."""
_REMEMBERED: Final = 10_000
_log = structlog.get_logger("carepost.graphql")


@dataclass(frozen=True, slots=True)
class _Revoked:
    """A practice's revocations, by what they name; times are seconds since 1970."""

    token_ids: frozenset[str]
    subjects: dict[str, float]
    everybody: float
    read_at: float

    def is_fresh(self) -> bool:
        return time.monotonic() < self.read_at + REMEMBER

    def holds(self, principal: Principal) -> bool:
        issued_at = principal.issued_at if principal.issued_at is not None else float("-inf")
        return principal.token_id not in self.token_ids and issued_at >= max(
            self.everybody, self.subjects.get(principal.subject, float("-inf"))
        )


class Revocations:
    """Of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[PracticeId, _Revoked] = {}

    def is_known_to_hold(self, principal: Principal) -> bool:
        """Whether what was read in the last seconds revokes it not."""
        known = self._known.get(principal.practice_id)
        return known is not None and known.is_fresh() and known.holds(principal)

    async def check(self, principal: Principal) -> None:
        """Raises `Unauthenticated` for a token that was revoked. Without the database what was known before counts."""
        known = self._known.get(principal.practice_id)
        if known is None or not known.is_fresh():
            known = await self._read(principal.practice_id, known)
        if not known.holds(principal):
            raise Unauthenticated("The token was revoked; sign in again.")

    async def still_holds(self, principal: Principal) -> bool:
        """The same for whoever signed in before; true when it can't be found out."""
        try:
            await self.check(principal)
        except Unauthenticated:
            return False
        except Exception as error:  # noqa: BLE001 - the database is away; asked again in seconds
            _log.warning("revocations could not be read yet", error=type(error).__name__)
        return True

    async def _read(self, practice_id: PracticeId, known: _Revoked | None) -> _Revoked:
        asked = time.monotonic()
        if known is not None:
            # Those who come while this one asks go by what was known; or all of them would ask.
            self._known[practice_id] = replace(known, read_at=asked)
        try:
            found = await list_revocations(self._database.app, practice_id)
        except Exception:
            if known is None:
                raise
            _log.warning("revocations could not be read; those known before count")
            return known
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        revoked = self._known[practice_id] = _revoked(found, asked)
        return revoked


def _revoked(found: Sequence[Revocation], read_at: float) -> _Revoked:
    subjects: dict[str, float] = {}
    everybody = float("-inf")
    for each in found:
        before = each.issued_before.timestamp()
        if each.token_id is None and each.subject is None:
            everybody = max(everybody, before)
        elif each.token_id is None and each.subject is not None:
            subjects[each.subject] = max(before, subjects.get(each.subject, before))
    return _Revoked(frozenset(each.token_id for each in found if each.token_id), subjects, everybody, read_at)
