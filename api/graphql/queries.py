"""Query: everything that can be read."""

from datetime import date, datetime, time, timedelta
from typing import Annotated
from uuid import UUID

import strawberry

from api.graphql.compiled import planned
from api.graphql.context import Info
from api.graphql.errors import ApiError
from api.graphql.ids import key_cursor, read_global_id, read_key_cursor, uuid_of
from api.graphql.plans.lists import plan_messages, plan_patient, plan_patients
from api.graphql.roles import MaySeeWebhooks
from api.graphql.types.account import SendingAccount
from api.graphql.types.connection import Node, edges_and_info, page_size
from api.graphql.types.delivery import WebhookDelivery, WebhookDeliveryConnection, WebhookDeliveryFilter
from api.graphql.types.event import MessageEvent
from api.graphql.types.message import Message, MessageConnection, MessageFilter
from api.graphql.types.patient import Patient, PatientConnection, saw_patients, searched
from api.graphql.types.practice import Practice, Viewer
from api.graphql.types.provider import Provider
from api.graphql.types.report import DeliveryReport, DeliveryReportRow
from api.views import View
from db.accounts import list_accounts
from db.deliveries import DeliveryFilter, find_delivery, page_of_deliveries
from db.event_pages import find_event
from db.messages import MessageFilter as FilterValue
from db.messages import page_of_messages
from db.patients import page_of_patients
from db.report import count_by_status
from mail.providers import PROVIDERS
from mail.status import MessageStatus

_LONGEST_REPORT = timedelta(days=3660)


@strawberry.type(
    description="Everything that can be read, within the practice of whoever is signed in. An operation "
    "may return 20,000 rows, unless the operator allows another number: a list counts `first` rows, each with what is "
    "selected below it; a list without `first` counts 100. More is refused with QUERY_TOO_COSTLY before it runs."
)
class Query:
    @strawberry.field(description="Who is signed in.")
    def viewer(self, info: Info) -> Viewer:
        return Viewer.of(info.context.principal, info.context.practice)

    @strawberry.field(description="Any object by its global id (Relay); null when the practice has none such.")
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        kind, key = read_global_id(id) or ("", "")
        match kind:
            case "Patient":
                return await _patient(info, uuid_of(kind, id))
            case "Message":
                return await _message(info, uuid_of(kind, id))
            case "SendingAccount":
                account = await info.context.load.account.load(uuid_of(kind, id) or UUID(int=0))
                return SendingAccount.of(account) if account else None
            case "Practice":
                practice = info.context.practice
                return Practice.of(practice) if uuid_of(kind, id) == practice.id else None
            case "MessageEvent":
                return await _event(info, key)
            case "WebhookDelivery":
                return await _delivery(info, uuid_of(kind, id))
            case _:
                return None

    @strawberry.field(description="One patient; null when the practice has none such.", metadata=planned(plan_patient))
    async def patient(self, info: Info, id: strawberry.ID) -> Patient | None:
        return await _patient(info, uuid_of("Patient", id))

    @strawberry.field(description="The practice's patients, by name.", metadata=planned(plan_patients))
    async def patients(
        self,
        info: Info,
        search: Annotated[str, strawberry.argument(description="Part of a name or an address.")] = "",
        first: int = 25,
        after: str | None = None,
    ) -> PatientConnection:
        size = page_size(info, first)
        context = info.context
        rows = await page_of_patients(
            context.database.app, context.practice_id, searched(search), size + 1, read_key_cursor(after)
        )
        saw_patients(info, search, [row.id for row in rows[:size]])
        edges, page_info = edges_and_info(rows, size, after, lambda row: key_cursor(row.id), Patient.of)
        return PatientConnection(edges=edges, page_info=page_info)

    @strawberry.field(description="One message; null when the practice has none such.")
    async def message(self, info: Info, id: strawberry.ID) -> Message | None:
        return await _message(info, uuid_of("Message", id))

    @strawberry.field(description="The practice's messages, newest first.", metadata=planned(plan_messages))
    async def messages(
        self,
        info: Info,
        filter: MessageFilter | None = None,
        first: int = 25,
        after: str | None = None,
    ) -> MessageConnection:
        size = page_size(info, first)
        context = info.context
        wanted = filter.value() if filter else FilterValue()
        if wanted is None:
            return MessageConnection.empty(await context.database.horizon.reached())
        cursor = read_key_cursor(after)
        reached = await context.database.horizon.reached()
        page = await page_of_messages(
            context.database.app, context.practice_id, wanted, size + 1, cursor, context.first_tracked
        )
        context.saw(View.MESSAGES, {row.patient_id for row in page.messages[:size]})
        return MessageConnection.from_page(page, reached, size, after, context.first_tracked)

    @strawberry.field(description="How the practice can send, the default first.")
    async def sending_accounts(self, info: Info) -> list[SendingAccount]:
        rows = await list_accounts(info.context.database.app, info.context.practice_id)
        return [SendingAccount.of(row) for row in rows]

    @strawberry.field(description="Email service providers that a practice can send through, with what a form needs.")
    def providers(self) -> list[Provider]:
        return [Provider.of(each) for each in PROVIDERS.values()]

    @strawberry.field(
        description="What ESPs have posted, newest first, and what came of it; for ADMIN alone.",
        permission_classes=[MaySeeWebhooks],
    )
    async def webhook_deliveries(
        self,
        info: Info,
        filter: WebhookDeliveryFilter | None = None,
        first: int = 25,
        after: str | None = None,
    ) -> WebhookDeliveryConnection:
        size = page_size(info, first)
        context = info.context
        key = read_key_cursor(after)
        wanted = filter.value() if filter else DeliveryFilter()
        rows = (
            await page_of_deliveries(context.database.app, context.practice_id, wanted, size + 1, key) if wanted else []
        )
        return WebhookDeliveryConnection.from_rows(rows, size, after)

    @strawberry.field(description="How many messages stand at each status, over days of the practice.")
    async def delivery_report(
        self, info: Info, from_: Annotated[date, strawberry.argument(name="from")], to: date
    ) -> DeliveryReport:
        if not date(1971, 1, 1) <= from_ <= to <= date(9000, 1, 1) or to - from_ > _LONGEST_REPORT:
            raise ApiError("Give a first and a last day, in order, at most ten years apart.", "INVALID_TIME")
        context = info.context
        zone = context.practice.zone
        counts = await count_by_status(
            context.database.app,
            context.practice_id,
            datetime.combine(from_, time(), zone),
            datetime.combine(to + timedelta(days=1), time(), zone),
            context.first_tracked,
        )
        rows = [
            DeliveryReportRow(status=status, label=status.label, count=counts.get(status, 0))
            for status in MessageStatus
        ]
        return DeliveryReport(from_=from_, to=to, total=sum(counts.values()), rows=rows)


async def _patient(info: Info, key: UUID | None) -> Patient | None:
    row = await info.context.load.patient.load(key) if key else None
    return Patient.of(row) if row else None


async def _message(info: Info, key: UUID | None) -> Message | None:
    row = await info.context.load.message.load(key) if key else None
    return Message.of(row, info.context.first_tracked) if row else None


async def _delivery(info: Info, key: UUID | None) -> WebhookDelivery | None:
    if key is None or not MaySeeWebhooks().has_permission(None, info):
        return None
    row = await find_delivery(info.context.database.app, info.context.practice_id, key)
    return WebhookDelivery.of(row) if row else None


async def _event(info: Info, key: str) -> MessageEvent | None:
    message_key, _, dedupe_key = key.partition("/")
    try:
        message_id = UUID(message_key)
    except ValueError:
        return None
    if "\x00" in dedupe_key:
        return None
    row = await find_event(info.context.database.app, info.context.practice_id, message_id, dedupe_key)
    if row is None:
        return None
    await info.context.load.message.load(message_id)  # whose evidence it is: that is noted
    return MessageEvent.of(row)
