"""The bare limits of the Messages tab: rows to JSON by orjson. No GraphQL, no sign-in, no audit, no explanation: `POST
/tab` with practice and patient gives the columns that the page's fields are made of, under the same role and row-level
security, by a statement that names its own tenant.

`python -m bench.peers.bare plain` is asyncpg and ASGI as they come, with a joined statement. `own` is Carepost's own
statement, connections and server: what is left of Carepost without what it is for.
"""

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from api.at_once import Answer, Answering, ByTarget, Headers
from bench.peers.serving import live, serve_peer
from db.lists import PATIENT_AT, list_messages_of
from db.messages import MessageFilter
from db.pool import TENANT, Database, Pool, PoolSize
from mail.ids import PracticeId

_PAGE: Final = 25
_JSON: Final = ((b"content-type", b"application/json"),)
_STATEMENT: Final = (
    TENANT.rstrip() + ", account AS MATERIALIZED (SELECT a.* FROM tenant CROSS JOIN LATERAL (SELECT id, name, kind, "
    "provider FROM sending_account WHERE practice_id = tenant.practice_id OFFSET 0) a) "
    "SELECT p.* FROM tenant CROSS JOIN LATERAL (SELECT "
    # orjson writes Python's UUIDs and not asyncpg's: text costs less than asking what they are.
    "p.id::text AS patient_id, p.name AS patient_name, p.email, p.email_health, p.open_tracking, "
    "m.id::text, m.subject, m.verdict, m.queued_at, m.scheduled_at, m.sent_at, m.delivered_at, m.opened_at, "
    "m.resend_of::text, m.machine_opened, m.deferred, m.failure_kind, m.failure_reason, "
    "a.id::text AS account, a.name, a.kind, a.provider FROM patient p CROSS JOIN LATERAL (SELECT * FROM message m "
    "WHERE m.practice_id = tenant.practice_id AND m.patient_id = p.id ORDER BY m.id DESC LIMIT 26) m "
    "JOIN account a ON a.id = m.account_id "
    "WHERE p.practice_id = tenant.practice_id AND p.id = $2 ORDER BY m.id DESC LIMIT 26) p"
)
_OF_PATIENT: Final = 5
"""How many of the columns are the patient's, which every row repeats."""
_COLUMNS: Final = (
    "subject", "shown", "queued_at", "cancelled_at", "failed_at", "sent_at", "soft_returned_at", "delivered_at",
    "opened_at", "returned_at", "scheduled_at", "flags", "account_provider", "account_kind", "failure_kind",
    "failure_smtp_code", "failure_enhanced_code", "failure_reason", "account_id_text", "account_name", "resend_of_text",
)  # fmt: skip
"""Those that Carepost reads for the page's document."""
_NAMES: Final = ("id", *(column.removesuffix("_text").removesuffix("_id") for column in _COLUMNS))
_EVERYTHING: Final = MessageFilter()
_SINCE: Final = datetime.fromisoformat("2019-07-24T00:00:00+00:00")


class Plain:
    """asyncpg's own pool, without the reset at each release, in a minimal ASGI application."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            async with await _open(self._url) as self._pool:
                await live(receive, send)
            return
        practice_id, patient_id = map(UUID, orjson.loads((await receive())["body"]))
        rows = await self._pool.fetch(_STATEMENT, practice_id, patient_id)
        names = tuple(rows[0].keys())
        values = [tuple(row) for row in rows]
        patient: dict[str, object] = dict(zip(names[:_OF_PATIENT], values[0], strict=False))
        patient["messages"] = [dict(zip(names[_OF_PATIENT:], row[_OF_PATIENT:], strict=True)) for row in values[:_PAGE]]
        patient["has_next_page"] = len(rows) > _PAGE
        body = orjson.dumps(patient)
        headers = [*_JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Own:
    """Carepost's connections and statement, answered past ASGI."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, PoolSize(2, 16))
        self.at_once: ByTarget = {b"/tab": self._take}.get

    def _take(self, headers: Headers, body: bytes) -> Answering:
        return partial(self._answer, body)

    async def _answer(self, body: bytes) -> Answer:
        practice_id, patient_id = map(UUID, orjson.loads(body))
        found = await list_messages_of(
            self._database.app,
            PracticeId(practice_id),
            patient_id,
            _EVERYTHING,
            _PAGE + 1,
            None,
            _SINCE,
            _COLUMNS,
        )
        assert found is not None
        patient: dict[str, object] = dict(zip(PATIENT_AT, found.patient, strict=True))
        # Behind the message's columns each row has the patient, who was read.
        patient["messages"] = [dict(zip(_NAMES, row, strict=False)) for row in found.rows[:_PAGE]]
        patient["has_next_page"] = len(found.rows) > _PAGE
        return Answer(200, _JSON, orjson.dumps(patient))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        async with self._database:
            await live(receive, send)


async def _open(url: str) -> Pool:
    """For the role and settings of Carepost's."""
    settings = {"role": "carepost_app", "timezone": "UTC", "jit": "off"}
    return await asyncpg.create_pool(url, min_size=2, max_size=8, reset=_no_reset, server_settings=settings)


async def _no_reset(connection: object) -> None:
    return None


if __name__ == "__main__":
    limits: Mapping[str, type[Plain | Own]] = {"plain": Plain, "own": Own}
    serve_peer(limits[sys.argv[1]](os.environ["CAREPOST_DATABASE_URL"]))
