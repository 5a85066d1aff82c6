"""For whoever runs it: `/healthz` (the process lives), `/readyz` (it can serve), `/metrics` (Prometheus)."""

import asyncio

import asyncpg
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.live import LiveHub
from db.errors import StoreError
from db.migrate import check_migrated
from db.pool import Database

_SUBSCRIBERS = Gauge("carepost_live_subscribers", "Open subscriptions of this process.")


async def healthz(request: Request) -> Response:
    """200 as long as the event loop turns."""
    return JSONResponse({"status": "ok"})


class Readiness:
    """200 when requests can be served, 503 when not. Without Valkey they can: live updates come later."""

    def __init__(self, database: Database, live: LiveHub) -> None:
        self._database = database
        self._live = live

    async def __call__(self, request: Request) -> Response:
        database = "ok"
        try:
            async with asyncio.timeout(2), self._database.app.acquire() as connection:
                await check_migrated(connection)
        except StoreError as error:
            database = str(error)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
            database = "out of reach"
        live = "ok" if self._live.listening else "delayed: valkey is out of reach"
        ready = database == "ok"
        return JSONResponse(
            {"status": "ready" if ready else "unavailable", "database": database, "live": live},
            status_code=200 if ready else 503,
        )


class Metrics:
    """What Prometheus scrapes."""

    def __init__(self, live: LiveHub) -> None:
        self._live = live

    async def __call__(self, request: Request) -> Response:
        _SUBSCRIBERS.set(self._live.subscribers)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
