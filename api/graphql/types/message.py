"""Message: one email to one patient, and what became of it."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import nh3
import strawberry

from api.graphql import batches
from api.graphql.compiled import batched
from api.graphql.context import EventsKey, Info
from api.graphql.enums import described
from api.graphql.errors import ApiError
from api.graphql.ids import global_id, key_cursor, live_cursor, read_event_cursor, uuid_of
from api.graphql.types.account import SendingAccount
from api.graphql.types.connection import Connection, Node, edges_and_info, page_size
from api.graphql.types.event import MessageEventConnection
from api.graphql.types.failure import Failure
from api.views import View
from db.messages import Message as MessageRow
from db.messages import MessageFilter as FilterValue
from db.messages import Page
from db.position import Position
from mail.explain import Facts, explain
from mail.explanation import ExplanationCode
from mail.providers import PROVIDERS
from mail.providers.base import Capabilities
from mail.status import AccountKind, MessageStatus, Verdict, ceiling, status_of

if TYPE_CHECKING:
    from api.graphql.types.patient import Patient

described(MessageStatus)
described(ExplanationCode)


@strawberry.type(description="Why a message has its status, and what staff can do next.")
class Explanation:
    code: ExplanationCode = strawberry.field(description="The same for programs.")
    text: str = strawberry.field(description="One or two sentences, in English, fit to be shown.")
    next_step: str | None = strawberry.field(description="What staff can do; null when there is nothing to do.")


def facts_of(row: MessageRow, limit: Verdict, provider: str | None) -> Facts:
    """`provider` is the account's."""
    return Facts(
        kind=row.account_kind,
        verdict=row.verdict,
        limit=limit,
        capabilities=capabilities_of(row.account_kind, provider),
        scheduled_at=row.scheduled_at,
        sent_at=row.sent_at,
        delivered_at=row.delivered_at,
        opened_at=row.opened_at,
        track_opens=row.track_opens,
        attempt_failed=row.attempt_failed,
        ambiguous=row.ambiguous,
        deferred=row.deferred,
        machine_opened=row.machine_opened,
        complained=row.complained,
        unsubscribed=row.unsubscribed,
        failure=row.failure,
    )


def capabilities_of(kind: AccountKind, provider: str | None) -> Capabilities | None:
    """What an account's ESP can tell; None for other kinds of accounts."""
    esp = PROVIDERS.get(provider or "") if kind.tracked else None
    return esp.capabilities if esp else None


def explained(facts: Facts, now: datetime, silence: timedelta) -> Explanation:
    why = explain(facts, now, silence)
    return Explanation(code=why.code, text=why.text, next_step=why.next_step or None)


@strawberry.input(description="Which messages a list holds. What is left out asks for no limit.")
class MessageFilter:
    statuses: list[MessageStatus] | None = strawberry.field(default=None, description="Any of these statuses.")
    account_id: strawberry.ID | None = strawberry.field(default=None, description="Sent through this account.")
    patient_id: strawberry.ID | None = strawberry.field(default=None, description="To this patient.")
    queued_from: datetime | None = strawberry.field(default=None, description="Queued at this time or later.")
    queued_to: datetime | None = strawberry.field(default=None, description="Queued before this time.")

    def value(self) -> FilterValue | None:
        """The filter with its ids read; None when an id is of nothing, so that nothing can match."""
        account_id = uuid_of("SendingAccount", self.account_id) if self.account_id else None
        patient_id = uuid_of("Patient", self.patient_id) if self.patient_id else None
        if (self.account_id and not account_id) or (self.patient_id and not patient_id):
            return None
        for moment in (self.queued_from, self.queued_to):
            if moment is not None and (moment.tzinfo is None or not 1970 <= moment.year < 9999):
                raise ApiError("Give times with their offset, such as 2026-01-31T09:00:00Z.", "INVALID_TIME")
        return FilterValue(
            statuses=tuple(self.statuses or ()),
            account_id=account_id,
            patient_id=patient_id,
            queued_from=self.queued_from,
            queued_to=self.queued_to,
        )


@strawberry.type(description="One email to one patient, and what became of it.")
class Message(Node):
    row: strawberry.Private[MessageRow]
    limit: strawberry.Private[Verdict]
    id: strawberry.ID = strawberry.field(description="Global id; opaque.")
    subject: str = strawberry.field(description="The subject line.")
    recipient: str = strawberry.field(description="The address it went to; the patient's may have changed since.")
    status: MessageStatus = strawberry.field(description="What became of it. Never falls.")
    queued_at: datetime = strawberry.field(description="When Carepost took it.")
    scheduled_at: datetime | None = strawberry.field(description="When it is to be sent, if not at once.")
    sent_at: datetime | None = strawberry.field(description="When an email server first accepted it.")

    @strawberry.field(description="The status in words, to be shown.")
    def status_label(self) -> str:
        return self.status.label

    @strawberry.field(description="When it got its status, by the earliest event that says so.")
    def status_at(self) -> datetime:
        row = self.row
        moments = {
            MessageStatus.QUEUED: row.queued_at,
            MessageStatus.CANCELLED: row.cancelled_at,
            MessageStatus.FAILED: row.failed_at,
            MessageStatus.SENT: row.sent_at,
            MessageStatus.DELIVERED: row.delivered_at,
            MessageStatus.OPENED: row.opened_at,
            MessageStatus.NOT_DELIVERED: _returned_at(row),
        }
        return moments[self.status] or row.queued_at

    @strawberry.field(description="When the destination confirmed it, whatever came later; null when unknown.")
    def delivered_at(self) -> datetime | None:
        return self.row.delivered_at if self.limit is Verdict.RETURNED else None

    @strawberry.field(description="When it was first opened by a person, as far as can be known.")
    def opened_at(self) -> datetime | None:
        return self.row.opened_at if self.limit is Verdict.RETURNED else None

    @strawberry.field(description="When it came back; null unless that is its status.")
    def not_delivered_at(self) -> datetime | None:
        return _returned_at(self.row) if self.status is MessageStatus.NOT_DELIVERED else None

    @strawberry.field(description="Why it was refused or came back, with the server's reply; null when it wasn't.")
    def failure(self) -> Failure | None:
        shows = self.status in {MessageStatus.NOT_DELIVERED, MessageStatus.FAILED}
        return Failure.of(self.row.failure) if shows and self.row.failure else None

    @strawberry.field(
        description="Why it has its status, and what staff can do.", metadata=batched(batches.explanations)
    )
    async def explanation(self, info: Info) -> Explanation:
        row = self.row
        account = await info.context.load.account.load(row.account_id) if row.account_kind.tracked else None
        provider = account.provider if account else None
        return explained(facts_of(row, self.limit, provider), datetime.now(UTC), info.context.services.config.silence)

    @strawberry.field(description="The plain text that was written.", metadata=batched(batches.texts))
    async def text(self, info: Info) -> str:
        body = await info.context.load.body.load(self.row.id)
        info.context.saw(View.BODY, (self.row.patient_id,))
        return body.text if body else ""

    @strawberry.field(
        description="The HTML that was written, cleaned of whatever could run; null for a plain email.",
        metadata=batched(batches.htmls),
    )
    async def html(self, info: Info) -> str | None:
        body = await info.context.load.body.load(self.row.id)
        info.context.saw(View.BODY, (self.row.patient_id,))
        return nh3.clean(body.html) if body and body.html is not None else None

    @strawberry.field(description="Whom it was written to.", metadata=batched(batches.patients, shared=True))
    async def patient(self, info: Info) -> Annotated["Patient", strawberry.lazy("api.graphql.types.patient")]:
        from api.graphql.types.patient import Patient

        row = await info.context.load.patient.load(self.row.patient_id)
        assert row is not None
        return Patient.of(row)

    @strawberry.field(description="What it was sent through.", metadata=batched(batches.accounts, shared=True))
    async def account(self, info: Info) -> SendingAccount:
        row = await info.context.load.account.load(self.row.account_id)
        assert row is not None
        return SendingAccount.of(row)

    @strawberry.field(
        description="The evidence, in the order in which it happened. Evidence above the ceiling doesn't show.",
        metadata=batched(batches.events),
    )
    async def events(self, info: Info, first: int = 50, after: str | None = None) -> MessageEventConnection:
        size = page_size(info, first)
        rows = await info.context.load.events.load(
            EventsKey(self.row.id, size + 1, read_event_cursor(after), self.limit)
        )
        return MessageEventConnection.from_rows(rows, size, after)

    @strawberry.field(description="The message that this one repeats.", metadata=batched(batches.resent))
    async def resend_of(self, info: Info) -> Annotated["Message", strawberry.lazy("api.graphql.types.message")] | None:
        if self.row.resend_of is None:
            return None
        row = await info.context.load.message.load(self.row.resend_of)
        return Message.of(row, info.context.first_tracked) if row else None

    @classmethod
    def of(cls, row: MessageRow, first_tracked: datetime) -> "Message":
        limit = ceiling(row.account_kind, row.sent_at or row.queued_at, first_tracked)
        return cls(
            row=row,
            limit=limit,
            id=global_id("Message", row.id),
            subject=row.subject,
            recipient=row.recipient,
            status=status_of(row.verdict, limit),
            queued_at=row.queued_at,
            scheduled_at=row.scheduled_at,
            sent_at=row.sent_at,
        )


@strawberry.type(description="A page of messages, newest first.")
class MessageConnection(Connection[Message]):
    live_cursor: str = strawberry.field(
        description="Give it as `since` to messageStatusChanged, and no change after this page was read is missed."
    )

    @classmethod
    def from_page(
        cls, page: Page, reached: Position, first: int, after: str | None, first_tracked: datetime
    ) -> "MessageConnection":
        """`reached` was taken before the page was read."""
        edges, page_info = edges_and_info(
            page.messages, first, after, lambda row: key_cursor(row.id), lambda row: Message.of(row, first_tracked)
        )
        return cls(edges=edges, page_info=page_info, live_cursor=live_cursor(reached.at_most(page.running)))

    @classmethod
    def empty(cls, reached: Position) -> "MessageConnection":
        return cls.from_page(Page([], reached.transaction), reached, 0, None, datetime.now(UTC))


def _returned_at(row: MessageRow) -> datetime | None:
    """The time of the return that decides: the final one where there is one."""
    return row.returned_at if row.verdict is Verdict.RETURNED else row.soft_returned_at
