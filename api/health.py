"""For whoever runs it: `/healthz` (the process lives), `/readyz` (it can serve), `/metrics` (Prometheus).

Workers listen on nothing. What they do with ESP accounts is noted in the database, and every API process exports it,
summed up by provider: never by practice or account.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

import asyncpg
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.live import LiveHub
from db.account_health import ProviderHealth, sum_up_by_provider
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
                newer = await check_migrated(connection)
            if newer is not None:
                database = f"ok; newer than this program, by {newer}"
        except StoreError as error:
            database = str(error)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
            database = "out of reach"
        live = "ok" if self._live.listening else "delayed: valkey is out of reach"
        ready = database.startswith("ok")
        return JSONResponse(
            {"status": "ready" if ready else "unavailable", "database": database, "live": live},
            status_code=200 if ready else 503,
        )


# Name, field of ProviderHealth, and what it says; the first of each are numbers at this moment, the second ever grow.
_GAUGES: Final = (
    ("carepost_accounts", "accounts", "ESP accounts."),
    ("carepost_accounts_heard", "heard", "Accounts whose ESP has ever posted an event."),
    ("carepost_accounts_signatures_refused", "signatures_refused", "Accounts whose last webhook was refused."),
    ("carepost_accounts_keys_refused", "keys_refused", "Accounts whose key the ESP refuses."),
    ("carepost_accounts_keys_expiring", "keys_expiring", "Accounts whose key has ended or will within 14 days."),
    ("carepost_accounts_asking_refused", "asking_refused", "Accounts whose ESP refuses to be asked."),
    ("carepost_events_parked", "parked", "Events that match no message."),
    ("carepost_webhooks_unreadable", "unreadable", "Webhooks kept that could not be read."),
    ("carepost_subscriptions_unconfirmed", "unconfirmed_subscriptions", "Webhook subscriptions to be confirmed."),
)
_COUNTERS: Final = (
    ("carepost_questions", "asked", "Messages that ESPs were asked about."),
    ("carepost_questions_told", "told", "Questions to which the ESP told something."),
    ("carepost_questions_not_told", "not_told", "Questions to which the ESP told nothing."),
)


class _Accounts:
    """A collector of what is summed up by provider."""

    def __init__(self, found: Mapping[str, ProviderHealth]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        for name, field, meaning in _GAUGES:
            gauge = GaugeMetricFamily(name, meaning, labels=["provider"])
            for provider, health in self._found.items():
                gauge.add_metric([provider], getattr(health, field))
            yield gauge
        for name, field, meaning in _COUNTERS:
            counter = CounterMetricFamily(name, meaning, labels=["provider"])
            for provider, health in self._found.items():
                counter.add_metric([provider], getattr(health, field))
            yield counter


class Metrics:
    """What Prometheus scrapes. Without the database it is what this process knows by itself."""

    def __init__(self, database: Database, live: LiveHub) -> None:
        self._database = database
        self._live = live

    async def __call__(self, request: Request) -> Response:
        _SUBSCRIBERS.set(self._live.subscribers)
        text = generate_latest()
        try:
            async with asyncio.timeout(2):
                found = await sum_up_by_provider(self._database.dispatcher)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
            pass
        else:
            registry = CollectorRegistry()
            registry.register(_Accounts(found))
            text += generate_latest(registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)
