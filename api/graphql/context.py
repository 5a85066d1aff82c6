"""What a resolver may use: who asks, for which practice, and loaders that batch what a page needs."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from strawberry.dataloader import DataLoader
from strawberry.types import Info as StrawberryInfo

from api.auth import Principal, Unauthenticated
from api.config import ApiConfig
from api.live import LiveHub
from api.rates import Rates
from api.revocations import Revocations
from api.views import View, Views
from api.webhooks.secrets import WebhookSecrets
from db import account_health, accounts, event_pages, messages, patients, practices
from db.accounts import Account
from db.event_pages import StoredEvent
from db.messages import Body, Message, MessageFilter, Page
from db.patients import Patient
from db.pool import Database
from db.practices import Practice
from mail.advice import Counts
from mail.ids import PracticeId
from mail.status import Verdict, tracked_from
from workers.jobs import Jobs

_REMEMBER: Final = 60.0


@dataclass(frozen=True, slots=True)
class PageKey:
    """One page of a patient's messages."""

    patient_id: UUID
    wanted: MessageFilter
    limit: int
    after: UUID | None


@dataclass(frozen=True, slots=True)
class EventsKey:
    """One page of a message's evidence, up to a ceiling."""

    message_id: UUID
    limit: int
    after: tuple[datetime, str] | None
    ceiling: Verdict


class Services:
    """What all requests of a process share."""

    def __init__(
        self, config: ApiConfig, database: Database, jobs: Jobs, live: LiveHub, webhook_secrets: WebhookSecrets
    ) -> None:
        self.config = config
        self.database = database
        self.jobs = jobs
        self.live = live
        self.webhook_secrets = webhook_secrets
        self.revocations = Revocations(database)
        self.views = Views(database)
        self.rates = Rates(config.limits.requests_per_second)
        self._practices: dict[PracticeId, tuple[Practice, float]] = {}

    def known_practice(self, practice_id: PracticeId) -> Practice | None:
        """The practice, where it was read in the last minute."""
        known = self._practices.get(practice_id)
        return known[0] if known is not None and time.monotonic() < known[1] else None

    async def practice(self, practice_id: PracticeId) -> Practice:
        """The practice, remembered for a minute; raises `Unauthenticated` when there is none."""
        if (known := self.known_practice(practice_id)) is not None:
            return known
        practice = await practices.find_practice(self.database.app, practice_id)
        if practice is None:
            raise Unauthenticated("The token names a practice that is not here.")
        if len(self._practices) > 10_000:
            self._practices.clear()
        self._practices[practice_id] = (practice, time.monotonic() + _REMEMBER)
        return practice


@dataclass(slots=True)
class Context:
    """Of one request, or of one socket. `connection_params` is what a socket's `connection_init` carried. With
    `many_see`, what is read is shown to others too, whose views are noted elsewhere."""

    services: Services
    signed_in: Principal | None = None
    home: Practice | None = None
    connection_params: dict[str, object] | None = None
    response: Any = None
    many_see: bool = False
    _loaders: "Loaders | None" = field(default=None, init=False)

    @property
    def principal(self) -> Principal:
        assert self.signed_in is not None
        return self.signed_in

    @property
    def practice(self) -> Practice:
        assert self.home is not None
        return self.home

    @property
    def practice_id(self) -> PracticeId:
        return self.principal.practice_id

    @property
    def database(self) -> Database:
        return self.services.database

    @property
    def first_tracked(self) -> datetime:
        return tracked_from(self.services.config.tracking_start, self.practice.zone)

    def saw(self, view: View, patient_ids: Iterable[UUID]) -> None:
        """Notes what was read to be shown; raises `ViewsUnrecorded`, and then it must not be."""
        if not self.many_see:
            self.services.views.note(self.principal, view, patient_ids)

    @property
    def load(self) -> "Loaders":
        if self._loaders is None:
            self._loaders = Loaders(self)
        return self._loaders


Info = StrawberryInfo[Context, None]


class Loaders:
    """Batches look-ups of one turn of the event loop into a statement each. They remember nothing, since a socket's
    context lives long."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.patient: DataLoader[UUID, Patient | None] = DataLoader(self._patients, cache=False)
        self.account: DataLoader[UUID, Account | None] = DataLoader(self._accounts, cache=False)
        self.message: DataLoader[UUID, Message | None] = DataLoader(self._messages, cache=False)
        self.body: DataLoader[UUID, Body | None] = DataLoader(self._bodies, cache=False)
        self.health: DataLoader[UUID, Counts] = DataLoader(self._health, cache=False)
        self.events: DataLoader[EventsKey, list[StoredEvent]] = DataLoader(self._events, cache=False)
        self.messages_of: DataLoader[PageKey, Page] = DataLoader(self._messages_of, cache=False)

    async def _patients(self, ids: list[UUID]) -> Sequence[Patient | None]:
        found = await patients.find_patients(self._context.database.app, self._context.practice_id, list(set(ids)))
        if found:
            self._context.saw(View.PATIENT, found)
        return [found.get(key) for key in ids]  # type: ignore[call-overload]

    async def _accounts(self, ids: list[UUID]) -> Sequence[Account | None]:
        found = await accounts.find_accounts(self._context.database.app, self._context.practice_id, list(set(ids)))
        return [found.get(key) for key in ids]  # type: ignore[call-overload]

    async def _messages(self, ids: list[UUID]) -> Sequence[Message | None]:
        found = await messages.find_messages(self._context.database.app, self._context.practice_id, list(set(ids)))
        if found:
            self._context.saw(View.MESSAGE, {message.patient_id for message in found.values()})
        return [found.get(key) for key in ids]  # type: ignore[call-overload]

    async def _bodies(self, ids: list[UUID]) -> Sequence[Body | None]:
        context = self._context
        found = await messages.find_bodies(
            context.database.app, context.services.config.sealer, context.practice_id, list(set(ids))
        )
        return [found.get(key) for key in ids]  # type: ignore[call-overload]

    async def _health(self, ids: list[UUID]) -> Sequence[Counts]:
        context = self._context
        until = datetime.now(UTC) - context.services.config.silence
        found = await account_health.count_for_health(
            context.database.app, context.practice_id, list(set(ids)), until - timedelta(days=30), until
        )
        return [found[key] for key in ids]  # type: ignore[index]

    async def _events(self, keys: list[EventsKey]) -> Sequence[list[StoredEvent]]:
        pages: dict[EventsKey, list[StoredEvent]] = {}
        # Keys of one field have all but the message in common, and perhaps the ceiling; aliases may differ.
        for model in {replace(key, message_id=UUID(int=0)) for key in keys}:
            ids = list({key.message_id for key in keys if replace(key, message_id=model.message_id) == model})
            found = await event_pages.page_of_events(
                self._context.database.app, self._context.practice_id, ids, model.limit, model.after, model.ceiling
            )
            pages.update((replace(model, message_id=key), page) for key, page in found.items())
        return [pages[key] for key in keys]

    async def _messages_of(self, keys: list[PageKey]) -> Sequence[Page]:
        context = self._context
        pages: dict[int, Page] = {}
        # Keys of one field have all but the patient in common; aliases may differ.
        pending = list(enumerate(keys))
        while pending:
            model = pending[0][1]
            same = [
                (place, key)
                for place, key in pending
                if (key.wanted, key.limit, key.after) == (model.wanted, model.limit, model.after)
            ]
            found = await messages.pages_by_patient(
                context.database.app,
                context.practice_id,
                list({key.patient_id for _, key in same}),
                model.wanted,
                model.limit,
                model.after,
                context.first_tracked,
            )
            context.saw(View.MESSAGES, found)
            pages.update((place, found[key.patient_id]) for place, key in same)
            done = {place for place, _ in same}
            pending = [(place, key) for place, key in pending if place not in done]
        return [pages[place] for place in range(len(keys))]
