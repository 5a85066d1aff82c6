"""Sending, resending, cancelling."""

from datetime import datetime

import strawberry

from api.compose import Draft, cancel_message, promise
from api.graphql.context import Info
from api.graphql.errors import InputRefused
from api.graphql.mutations.payload import Payload
from api.graphql.roles import MaySend
from api.graphql.types.message import Message

_KEY = (
    "Any string of the client's, the same for repeats of one wish: the same key twice gives the same message, "
    "the same key with another content is refused. At most 200 characters."
)


@strawberry.input
class _EmailInput:
    """What an email says and how it goes, to whomever."""

    account_id: strawberry.ID | None = strawberry.field(
        default=None, description="What to send through; left out, the practice's default."
    )
    subject: str = strawberry.field(description="The subject line: one line, at most 500 characters.")
    text: str = strawberry.field(description="The plain text; at most a million characters.")
    html: str | None = strawberry.field(default=None, description="The same as HTML, if wanted.")
    send_at: datetime | None = strawberry.field(
        default=None, description="Not before this time, at most a year ahead; left out or past, at once."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=_KEY)

    def draft(self) -> Draft:
        return Draft(
            account_id=self.account_id,
            subject=self.subject,
            text=self.text,
            html=self.html,
            send_at=self.send_at,
            idempotency_key=self.idempotency_key,
        )


@strawberry.input(description="An email to one patient.")
class SendMessageInput(_EmailInput):
    patient_id: strawberry.ID = strawberry.field(description="Whom to write to.")


@strawberry.type(description="What sendMessage answers: the promise is committed once it is there.")
class SendMessagePayload(Payload):
    message: Message | None = strawberry.field(default=None, description="The message; null when refused.")


@strawberry.input(description="The same email to many patients, a message each. All or none.")
class SendMessagesInput(_EmailInput):
    patient_ids: list[strawberry.ID] = strawberry.field(description="Whom to write to, each once; at most 500.")


@strawberry.type(description="What sendMessages answers.")
class SendMessagesPayload(Payload):
    messages: list[Message] | None = strawberry.field(
        default=None, description="The messages in the order of the patients; null when refused."
    )


@strawberry.input(description="A message to send again, to the patient's present address, as a new message.")
class ResendMessageInput:
    message_id: strawberry.ID = strawberry.field(description="The message to repeat.")
    account_id: strawberry.ID | None = strawberry.field(
        default=None, description="What to send through; left out, the account it went through."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=_KEY)


@strawberry.type(description="What resendMessage answers.")
class ResendMessagePayload(Payload):
    message: Message | None = strawberry.field(
        default=None, description="The new message, which names the old one in `resendOf`; null when refused."
    )


@strawberry.input(description="A message to withdraw before it is sent.")
class CancelMessageInput:
    message_id: strawberry.ID = strawberry.field(description="The message to withdraw.")


@strawberry.type(description="What cancelMessage answers.")
class CancelMessagePayload(Payload):
    message: Message | None = strawberry.field(default=None, description="The cancelled message; null when refused.")


@strawberry.type
class MessageMutations:
    @strawberry.mutation(
        description="Sends an email to a patient. Once answered, it is stored and will be sent, whatever breaks.",
        permission_classes=[MaySend],
    )
    async def send_message(self, info: Info, input: SendMessageInput) -> SendMessagePayload:
        try:
            sent = await promise(info.context, "sendMessage", input.draft(), [input.patient_id], many=False)
        except InputRefused as refused:
            return SendMessagePayload(errors=list(refused.errors))
        return SendMessagePayload(errors=[], message=Message.of(sent[0], info.context.first_tracked))

    @strawberry.mutation(
        description="Sends the same email to many patients, a message each; all or none.",
        permission_classes=[MaySend],
    )
    async def send_messages(self, info: Info, input: SendMessagesInput) -> SendMessagesPayload:
        try:
            sent = await promise(info.context, "sendMessages", input.draft(), input.patient_ids, many=True)
        except InputRefused as refused:
            return SendMessagesPayload(errors=list(refused.errors))
        first_tracked = info.context.first_tracked
        return SendMessagesPayload(errors=[], messages=[Message.of(row, first_tracked) for row in sent])

    @strawberry.mutation(description="Sends a message again, as a new one that names it.", permission_classes=[MaySend])
    async def resend_message(self, info: Info, input: ResendMessageInput) -> ResendMessagePayload:
        draft = Draft(account_id=input.account_id, idempotency_key=input.idempotency_key, repeats=input.message_id)
        try:
            sent = await promise(info.context, "resendMessage", draft, [], many=False)
        except InputRefused as refused:
            return ResendMessagePayload(errors=list(refused.errors))
        return ResendMessagePayload(errors=[], message=Message.of(sent[0], info.context.first_tracked))

    @strawberry.mutation(description="Withdraws a message that is queued or scheduled.", permission_classes=[MaySend])
    async def cancel_message(self, info: Info, input: CancelMessageInput) -> CancelMessagePayload:
        try:
            row = await cancel_message(info.context, input.message_id)
        except InputRefused as refused:
            return CancelMessagePayload(errors=list(refused.errors))
        return CancelMessagePayload(errors=[], message=Message.of(row, info.context.first_tracked))
