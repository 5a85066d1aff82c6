"""Views: who saw which patients' data, noted while answering and written to the audit trail a moment later.

A reading statement is no transaction that writes, and shall be none: a view is noted in memory, and what was noted is
written together, every second. Of equal views (the same person, kind and patient) the first is written then, the others
are counted and written once, after minutes. So a process that is killed loses the views of its last second, and of the
others how often.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import structlog

from api.auth import Principal
from db.audit import ViewEntry, record_views
from db.pool import Database
from mail.ids import PracticeId

EVERY: Final = 1.0
"""Seconds after which a view is written, which is what a kill may lose."""
_COUNTED: Final = 300.0
"""Seconds for which equal views are counted instead of written."""
_MOST: Final = 50_000
"""Views that are kept in memory: those that are counted, and as many that can't be written."""
_IDS: Final = 500
"""Patients of an entry."""
_AT_ONCE: Final = 500
"""Entries of a statement."""
_log = structlog.get_logger("carepost.audit")


class View(StrEnum):
    """What was looked at."""

    PATIENT = "patient"
    """Name, address and consent of one."""
    PATIENTS = "patients"
    """The list of patients; those on the page."""
    SEARCH = "search"
    """The same by part of a name or address, which is not kept."""
    MESSAGES = "messages"
    """A list of messages, of a patient or the practice; the patients whose messages it showed."""
    MESSAGE = "message"
    """A single message; its patient."""
    BODY = "body"
    """The text of a message; its patient."""
    FOLLOW = "follow"
    """Changes of messages as they happen, from now on: of one patient, or of none named, which is any."""
    UNFOLLOW = "unfollow"
    """The end of that."""


class ViewsUnrecorded(OSError):
    """So much waits to be written to the audit trail that nothing more may be shown. An OSError, as the cause is: the
    database takes nothing."""


@dataclass(slots=True)
class _Seen:
    """Equal views since the first, which is written apart: how many, and when the first and the last of them was."""

    times: int = 0
    first_at: float = 0.0
    last_at: float = 0.0


_Kind = tuple[PracticeId, str, View]


class Views:
    """Of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[tuple[PracticeId, str, View, UUID | None], _Seen] = {}
        self._new: dict[_Kind, list[tuple[UUID | None, float]]] = {}
        self._waiting: list[ViewEntry] = []
        self._close_at = time.monotonic() + _COUNTED
        self._is_failing = False

    @property
    def waiting(self) -> int:
        """Entries that Postgres didn't take yet."""
        return len(self._waiting)

    def note(self, principal: Principal, view: View, patient_ids: Iterable[UUID]) -> None:
        """A view of these patients' data; with none, of a selection that showed nobody or names nobody.

        Raises `ViewsUnrecorded`.
        """
        practice_id, subject = principal.practice_id, principal.subject
        now = time.time()
        nobody = True
        for patient_id in patient_ids:
            nobody = False
            self._note((practice_id, subject, view, patient_id), now)
        if nobody:
            self._note((practice_id, subject, view, None), now)

    def _note(self, key: tuple[PracticeId, str, View, UUID | None], now: float) -> None:
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= _MOST:
                self._close_window()
            if len(self._waiting) >= _MOST:
                raise ViewsUnrecorded
            self._seen[key] = _Seen()
            self._new.setdefault((key[0], key[1], key[2]), []).append((key[3], now))
            return
        if not seen.times:
            seen.first_at = now
        seen.times += 1
        seen.last_at = now

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            if time.monotonic() >= self._close_at:
                self._close_window()
            await self._write()

    async def close(self) -> None:
        """Writes what is left."""
        self._close_window()
        await self._write()
        if self._waiting:
            _log.error("views are lost from the audit trail", entries=len(self._waiting))

    def _take_new(self) -> None:
        for kind, noted in self._new.items():
            self._wait(kind, [(patient, _Seen(1, at, at)) for patient, at in noted])
        self._new.clear()

    def _close_window(self) -> None:
        """What was counted is to be written, and the next view of each kind is a first one again."""
        self._take_new()
        again: dict[_Kind, list[tuple[UUID | None, _Seen]]] = {}
        for (practice_id, subject, view, patient), seen in self._seen.items():
            if seen.times:
                again.setdefault((practice_id, subject, view), []).append((patient, seen))
        for kind, noted in again.items():
            self._wait(kind, noted)
        self._seen.clear()
        self._close_at = time.monotonic() + _COUNTED

    def _wait(self, kind: _Kind, noted: Sequence[tuple[UUID | None, _Seen]]) -> None:
        practice_id, subject, view = kind
        for start in range(0, len(noted), _IDS):
            part = noted[start : start + _IDS]
            entry = ViewEntry(
                practice_id=practice_id,
                subject=subject,
                view=view.value,
                patient_ids=[patient for patient, _ in part if patient is not None],
                times=sum(seen.times for _, seen in part),
                first_at=datetime.fromtimestamp(min(seen.first_at for _, seen in part), UTC),
                last_at=datetime.fromtimestamp(max(seen.last_at for _, seen in part), UTC),
            )
            self._waiting.append(entry)

    async def _write(self) -> None:
        """Writes what waits, as far as Postgres takes it; the rest goes on waiting."""
        self._take_new()
        while self._waiting:
            batch = self._waiting[:_AT_ONCE]
            try:
                await record_views(self._database.inbox, batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, what waits is written later
                if not self._is_failing:
                    _log.warning("views can't be written yet", error=type(error).__name__)
                self._is_failing = True
                return
            self._is_failing = False
            del self._waiting[: len(batch)]
