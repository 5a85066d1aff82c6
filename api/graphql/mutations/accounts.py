"""Setting up sending accounts."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import strawberry

from api.addresses import webhook_url
from api.graphql.context import Context, Info
from api.graphql.errors import ErrorCode, InputRefused, refuse, refused_credentials
from api.graphql.ids import uuid_of
from api.graphql.mutations.payload import Checks, Payload
from api.graphql.roles import MaySetUp
from api.graphql.types.account import SendingAccount
from api.graphql.types.provider import set_up_steps
from db import accounts
from db.accounts import Account
from db.audit import record_deed
from db.ids import uuid7
from db.pool import Connection
from mail.errors import CredentialsIncomplete
from mail.ids import AccountId
from mail.message import Address, check_address, check_name, one_header_line
from mail.providers import PROVIDERS
from mail.providers.base import Provider
from mail.servers import smtp_server
from mail.status import AccountKind


@strawberry.input(description="One value that an account needs, such as `api_key`. Kept sealed, never shown again.")
class CredentialInput:
    name: str = strawberry.field(description="Its name: for an ESP see docs/providers.md; `host`, `port` ... for SMTP.")
    value: str = strawberry.field(description="Its value.")


@strawberry.input(description="A new sending account.")
class CreateSendingAccountInput:
    kind: AccountKind = strawberry.field(description="How it sends.")
    provider: str | None = strawberry.field(default=None, description="Name of the ESP; for kind ESP alone.")
    name: str = strawberry.field(description="As staff will choose it.")
    from_address: str = strawberry.field(description="The address emails come from.")
    from_name: str = strawberry.field(default="", description="The name emails come from.")
    reply_to: str | None = strawberry.field(default=None, description="Where answers go, if not to the From address.")
    is_default: bool = strawberry.field(default=False, description="Taken when a message names no account.")
    credentials: list[CredentialInput] = strawberry.field(description="What the ESP or server asks for.")
    webhook_secret: str | None = strawberry.field(
        default=None, description="The ESP's verification key, where it hands one out; may be set later."
    )


@strawberry.type(description="What createSendingAccount answers.")
class CreateSendingAccountPayload(Payload):
    account: SendingAccount | None = strawberry.field(default=None, description="The new account; null when refused.")
    webhook_url: str | None = strawberry.field(
        default=None, description="The URL to enter at the ESP, with its password where it has one; shown this once."
    )
    set_up_steps: list[str] = strawberry.field(
        default_factory=list,
        description="What to do at the ESP, in order, with that URL; empty for Gmail and SMTP, and when refused.",
    )
    warnings: list[str] = strawberry.field(
        default_factory=list, description="What to mind at this ESP, such as its open tracking; mostly empty."
    )


@strawberry.input(description="What changes of an account; what is left out stays.")
class UpdateSendingAccountInput:
    account_id: strawberry.ID = strawberry.field(description="Which account changes.")
    name: str | None = strawberry.field(default=None, description="As staff choose it.")
    from_address: str | None = strawberry.field(default=None, description="The address emails come from.")
    from_name: str | None = strawberry.field(default=None, description="The name emails come from.")
    reply_to: str | None = strawberry.field(default=None, description="Where answers go; empty for the From address.")
    is_default: bool | None = strawberry.field(default=None, description="Taken when a message names no account.")
    credentials: list[CredentialInput] | None = strawberry.field(
        default=None, description="All of them anew; they replace the old ones."
    )


@strawberry.type(description="What updateSendingAccount answers.")
class UpdateSendingAccountPayload(Payload):
    account: SendingAccount | None = strawberry.field(default=None, description="The account; null when refused.")


@strawberry.input(description="A new webhook secret for an account.")
class RotateWebhookSecretInput:
    account_id: strawberry.ID = strawberry.field(description="Which account gets it.")
    secret: str | None = strawberry.field(
        default=None, description="The ESP's new key; left out where the password is ours to make."
    )
    keep_old: bool = strawberry.field(
        default=True, description="Whether the present secret holds too, until the next rotation."
    )


@strawberry.type(description="What rotateWebhookSecret answers.")
class RotateWebhookSecretPayload(Payload):
    account: SendingAccount | None = strawberry.field(default=None, description="The account; null when refused.")
    webhook_url: str | None = strawberry.field(
        default=None, description="The URL to enter at the ESP, with its password where it has one; shown this once."
    )


@strawberry.type
class AccountMutations:
    @strawberry.mutation(description="Sets up a way to send.", permission_classes=[MaySetUp])
    async def create_sending_account(self, info: Info, input: CreateSendingAccountInput) -> CreateSendingAccountPayload:
        try:
            account, secret = await _create(info.context, input)
        except InputRefused as refused:
            return CreateSendingAccountPayload(errors=list(refused.errors))
        url = _full_url(info.context, account, secret)
        esp = PROVIDERS.get(account.provider or "")
        warning = esp.capabilities.tracking_warning if esp else ""
        return CreateSendingAccountPayload(
            errors=[],
            account=SendingAccount.of(account),
            webhook_url=url,
            set_up_steps=list(set_up_steps(esp, url)),
            warnings=[warning] if warning else [],
        )

    @strawberry.mutation(description="Changes a sending account.", permission_classes=[MaySetUp])
    async def update_sending_account(self, info: Info, input: UpdateSendingAccountInput) -> UpdateSendingAccountPayload:
        try:
            account = await _update(info.context, input)
        except InputRefused as refused:
            return UpdateSendingAccountPayload(errors=list(refused.errors))
        return UpdateSendingAccountPayload(errors=[], account=SendingAccount.of(account))

    @strawberry.mutation(
        description="Gives an account's webhook a new secret; the old one may hold on meanwhile.",
        permission_classes=[MaySetUp],
    )
    async def rotate_webhook_secret(self, info: Info, input: RotateWebhookSecretInput) -> RotateWebhookSecretPayload:
        try:
            account, secret = await _rotate(info.context, input)
        except InputRefused as refused:
            return RotateWebhookSecretPayload(errors=list(refused.errors))
        return RotateWebhookSecretPayload(
            errors=[], account=SendingAccount.of(account), webhook_url=_full_url(info.context, account, secret)
        )


async def _create(context: Context, input: CreateSendingAccountInput) -> tuple[Account, str | None]:
    checks = Checks()
    name = checks.text(lambda: check_name("name", input.name))
    sender = _sender(checks, input.from_address, input.from_name)
    reply_to = None if not input.reply_to else checks.text(lambda: check_address("replyTo", input.reply_to or ""))
    esp = None
    with checks.field():
        esp = _esp(input.kind, input.provider)
    credentials = _pairs(input.credentials)
    if not checks.errors:
        with checks.field():
            _check_credentials(input.kind, esp, credentials)
    secret: str | None = None
    if esp is not None:
        with checks.field():
            secret = _new_secret(esp, "webhookSecret", input.webhook_secret)
    checks.done()
    account_id = AccountId(uuid7(datetime.now(UTC)))
    async with context.database.tenant(context.practice_id) as connection:
        account = await accounts.create_account(
            connection,
            context.services.config.sealer,
            context.practice_id,
            account_id,
            kind=input.kind,
            provider=esp.name if esp else None,
            name=name,
            sender=sender,
            reply_to=reply_to,
            is_default=input.is_default,
            credentials=credentials,
            webhook_secrets=[secret] if secret else [],
        )
        await _note(context, connection, "createSendingAccount", account_id)
    return account, secret


async def _update(context: Context, input: UpdateSendingAccountInput) -> Account:
    checks = Checks()
    name = None if input.name is None else checks.text(lambda: check_name("name", input.name or ""))
    sender_name = sender_email = None
    if input.from_name is not None:
        sender_name = checks.text(lambda: one_header_line("fromName", input.from_name or "", 200))
    if input.from_address is not None:
        sender_email = checks.text(lambda: check_address("fromAddress", input.from_address or ""))
    reply_to = input.reply_to and checks.text(lambda: check_address("replyTo", input.reply_to or ""))
    account = await _find(context, input.account_id)
    credentials = None if input.credentials is None else _pairs(input.credentials)
    if credentials is not None:
        with checks.field():
            _check_credentials(account.kind, PROVIDERS.get(account.provider or ""), credentials)
    checks.done()
    async with context.database.tenant(context.practice_id) as connection:
        changed = await accounts.update_account(
            connection,
            context.services.config.sealer,
            context.practice_id,
            account.id,
            name=name,
            sender_name=sender_name,
            sender_email=sender_email,
            reply_to=reply_to,
            is_default=input.is_default,
            credentials=credentials,
        )
        assert changed is not None
        await _note(context, connection, "updateSendingAccount", account.id)
    return changed


async def _rotate(context: Context, input: RotateWebhookSecretInput) -> tuple[Account, str | None]:
    account = await _find(context, input.account_id)
    esp = PROVIDERS.get(account.provider or "")
    if esp is None:
        raise refuse("accountId", ErrorCode.INVALID_VALUE, "Only an ESP posts webhooks.")
    secret = _new_secret(esp, "secret", input.secret)
    if secret is None:
        raise refuse("secret", ErrorCode.REQUIRED, f"Enter the verification key that {esp.label} shows.")
    sealer = context.services.config.sealer
    held = await accounts.find_webhook_secrets(context.database.app, sealer, context.practice_id, account.id, esp.name)
    kept = list(held or ())[:1] if input.keep_old else []
    async with context.database.tenant(context.practice_id) as connection:
        changed = await accounts.set_webhook_secrets(
            connection, sealer, context.practice_id, account.id, [secret, *(key for key in kept if key != secret)]
        )
        assert changed is not None
        await _note(context, connection, "rotateWebhookSecret", account.id)
    context.services.webhook_secrets.forget(context.practice_id, account.id, esp.name)
    return changed, secret


async def _find(context: Context, account_id: str) -> Account:
    key = uuid_of("SendingAccount", account_id)
    account = await context.load.account.load(key) if key else None
    if account is None:
        raise refuse("accountId", ErrorCode.NOT_FOUND, "There is no such sending account.")
    return account


def _sender(checks: Checks, address: str, name: str) -> Address:
    email = checks.text(lambda: check_address("fromAddress", address))
    return Address(email, checks.text(lambda: one_header_line("fromName", name, 200)))


def _esp(kind: AccountKind, name: str | None) -> Provider | None:
    if kind is not AccountKind.ESP:
        if name is not None:
            raise refuse("provider", ErrorCode.INVALID_VALUE, "Only kind ESP has a provider.")
        return None
    esp = PROVIDERS.get(name or "")
    if esp is None:
        raise refuse("provider", ErrorCode.INVALID_VALUE, f"Name one of {', '.join(PROVIDERS)}.")
    return esp


def _pairs(given: Sequence[CredentialInput]) -> Mapping[str, str]:
    return {entry.name: entry.value for entry in given}


def _check_credentials(kind: AccountKind, esp: Provider | None, credentials: Mapping[str, str]) -> None:
    try:
        if esp is not None:
            esp.check_credentials(credentials)
        else:
            smtp_server(kind, credentials)
    except CredentialsIncomplete as error:
        raise InputRefused(refused_credentials(error, "credentials")) from error


def _new_secret(esp: Provider, field: str, given: str | None) -> str | None:
    """The secret given, or one of ours where it is ours to make; None where the ESP's is still to come."""
    if esp.generates_webhook_secret and given is None:
        return f"carepost:{secrets.token_urlsafe(24)}"
    if given is not None:
        try:
            esp.check_webhook_secret(given)
        except CredentialsIncomplete as error:
            raise refuse(field, ErrorCode.INVALID_VALUE, str(error)) from error
    return given


def _full_url(context: Context, account: Account, secret: str | None) -> str | None:
    esp = PROVIDERS.get(account.provider or "")
    if esp is None:
        return None
    plain = webhook_url(context.services.config.public_url, esp.name, context.practice_id, account.id)
    return esp.webhook_url(plain, secret)


async def _note(context: Context, connection: Connection, action: str, account_id: UUID) -> None:
    await record_deed(connection, context.practice_id, context.principal.subject, action, "SendingAccount", account_id)
