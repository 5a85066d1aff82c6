"""The bare limit of the Messages tab: one joined statement by asyncpg, its rows to JSON by orjson, uvicorn around it.

The statement names its own tenant and runs under the same role and row-level security as Carepost's. No GraphQL, no
sign-in, no explanation: `POST /<practice>/<patient>` gives the columns that the page's fields are made of.
"""

import os
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
import uvicorn

from db.pool import TENANT, Pool

_STATEMENT: Final = (
    TENANT + "SELECT p.* FROM tenant CROSS JOIN LATERAL (SELECT "
    # orjson writes Python's UUIDs and not asyncpg's: text costs less than asking what they are.
    "p.id::text AS patient_id, p.name AS patient_name, p.email, p.email_health, p.open_tracking, "
    "m.id::text, m.subject, m.verdict, m.queued_at, m.scheduled_at, m.sent_at, m.delivered_at, m.opened_at, "
    "m.resend_of::text, m.machine_opened, m.deferred, m.failure_kind, m.failure_reason, "
    "a.id::text AS account, a.name, a.kind, a.provider FROM patient p CROSS JOIN LATERAL (SELECT * FROM message m "
    "WHERE m.practice_id = tenant.practice_id AND m.patient_id = p.id ORDER BY m.id DESC LIMIT 26) m "
    "JOIN sending_account a ON a.practice_id = tenant.practice_id AND a.id = m.account_id "
    "WHERE p.practice_id = tenant.practice_id AND p.id = $2 ORDER BY m.id DESC LIMIT 26) p"
)
_OF_PATIENT: Final = 5
"""How many of the columns are the patient's, which every row repeats."""


class Bare:
    """The application."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        _, practice_id, patient_id = scope["path"].split("/")
        rows = await self._pool.fetch(_STATEMENT, UUID(practice_id), UUID(patient_id))
        names = tuple(rows[0].keys())
        values = [tuple(row) for row in rows]
        patient: dict[str, object] = dict(zip(names[:_OF_PATIENT], values[0], strict=False))
        patient["messages"] = [dict(zip(names[_OF_PATIENT:], row[_OF_PATIENT:], strict=True)) for row in values[:25]]
        patient["has_next_page"] = len(rows) > 25
        body = orjson.dumps(patient)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        async with await _open(self._url) as self._pool:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _open(url: str) -> Pool:
    """asyncpg's own pool, without the reset at each release, for the role and settings of Carepost's."""
    settings = {"role": "carepost_app", "timezone": "UTC", "jit": "off"}
    return await asyncpg.create_pool(url, min_size=2, max_size=8, reset=_no_reset, server_settings=settings)


async def _no_reset(connection: object) -> None:
    return None


def serve(app: Any) -> None:
    """As `carepost api` serves, on PORT."""
    uvicorn.run(
        app,
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
    )


if __name__ == "__main__":
    serve(Bare(os.environ["CAREPOST_DATABASE_URL"]))
