"""An ESP account: its key, its clock, its webhook and what is noted of it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from carepost.chosen import Chosen
from carepost.doctor.checks import Check, Outcome, failed, ok, warning
from db.account_health import count_for_health, read_webhook_marks
from db.accounts import find_accounts, find_webhook_secrets
from db.errors import SealBroken
from db.pool import Database
from db.sealing import Sealer
from mail.advice import EXPIRES_SOON, AdviceCode, Severity, advise
from mail.errors import CredentialsIncomplete
from mail.providers.base import Checkable, HttpRequest, Provider, WebhookTestable
from workers.errors import TransportError
from workers.transports.http import HttpTransport

_SKEW: Final = timedelta(minutes=1)
_MOST_SKEW: Final = timedelta(minutes=5)  # AWS refuses signatures that are further off
_TOLD: Final = {Severity.OK: Outcome.OK, Severity.NOTE: Outcome.OK, Severity.WARNING: Outcome.WARNING}
# What the doctor finds out anew.
_ASKED_ANEW: Final = frozenset({AdviceCode.KEY_EXPIRED, AdviceCode.KEY_EXPIRES_SOON})


async def check_key(http: HttpTransport, esp: Provider, credentials: Mapping[str, str]) -> Sequence[Check]:
    """The credentials, whether the ESP takes them and until when, and our clock against its."""
    try:
        esp.check_credentials(credentials)
    except CredentialsIncomplete as error:
        return [failed("Credentials", f"{error.field}: {error}")]
    found = [ok("Credentials", "Complete.")]
    if not isinstance(esp, Checkable):
        return [*found, ok("Key", f"{esp.label} has no way to check a key without sending.")]
    try:
        response = await http.send(esp.check_request(credentials))
    except TransportError as error:
        return [*found, failed("Key", f"{esp.label} can't be reached: {error.failure.reason}")]
    check = esp.read_check(response)
    found.append(Check("Key", {True: Outcome.OK, False: Outcome.FAILED, None: Outcome.WARNING}[check.ok], check.text))
    if check.expires_at is not None:
        left = check.expires_at - datetime.now(UTC)
        text = f"It ends on {check.expires_at:%Y-%m-%d}."
        if left <= timedelta():
            found.append(failed("Key's end", f"It ended on {check.expires_at:%Y-%m-%d}. Make a new one and enter it."))
        elif left <= EXPIRES_SOON:
            found.append(warning("Key's end", f"{text} Make a new one and enter it before."))
        else:
            found.append(ok("Key's end", text))
    return [*found, *check_clock(esp.label, response.headers.get("date", ""), datetime.now(UTC))]


def check_clock(label: str, date: str, now: datetime) -> Sequence[Check]:
    """Our clock against the Date header of an answer (RFC 9110 section 6.6.1); nothing where there is none."""
    try:
        theirs = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return []
    skew = abs(now - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)))
    if skew <= _SKEW:
        return [ok("Clock", f"Within a minute of {label}'s.")]
    text = f"{round(skew.total_seconds())} s away from {label}'s. Set this machine's clock by NTP."
    return [failed("Clock", text) if skew > _MOST_SKEW else warning("Clock", text)]


async def check_webhook(
    database: Database,
    sealer: Sealer,
    own: HttpTransport,
    http: HttpTransport,
    esp: Provider,
    chosen: Chosen,
    url: str,
    credentials: Mapping[str, str],
    patience: timedelta,
) -> Sequence[Check]:
    """Whether the webhook's URL leads to us, and whether a test that the ESP posts there is taken. `own` may connect
    anywhere, since the URL is the operator's."""
    try:
        status = (await own.send(HttpRequest("HEAD", url, {}, b""))).status
    except TransportError as error:
        return [failed("Webhook URL", f"PUBLIC_URL can't be reached from here: {error.failure.reason}")]
    if status != 200:
        return [failed("Webhook URL", f"It answers HTTP {status}: see that PUBLIC_URL leads to Carepost's API.")]
    found = [ok("Webhook URL", "It answers through PUBLIC_URL.")]
    practice_id, account_id = chosen.practice.id, chosen.account.id
    try:
        secrets = await find_webhook_secrets(database.app, sealer, practice_id, account_id, esp.name)
    except SealBroken:
        return [*found, failed("Webhook secret", "It doesn't open with any of SECRET_KEY.")]
    if not secrets:
        return [*found, failed("Webhook secret", f"None yet: enter {esp.label}'s with rotateWebhookSecret.")]
    request = None
    if isinstance(esp, WebhookTestable):
        request = esp.webhook_test_request(credentials, esp.webhook_url(url, secrets[0]))
    if request is None:
        return [*found, ok("Webhook secret", f"Set; {esp.label} can't be told to post a test.")]
    async with database.tenant(practice_id) as connection:
        before = await read_webhook_marks(connection, practice_id, account_id)
    try:
        response = await http.send(request)
    except TransportError as error:
        return [*found, warning("Webhook test", f"{esp.label} can't be told to post one: {error.failure.reason}")]
    if not 200 <= response.status < 300:
        return [*found, warning("Webhook test", f"{esp.label} posts none: it answered HTTP {response.status}.")]
    deadline = time.monotonic() + patience.total_seconds()
    while time.monotonic() < deadline:
        async with database.tenant(practice_id) as connection:
            now = await read_webhook_marks(connection, practice_id, account_id)
        if now.newest_delivery != before.newest_delivery:
            return [*found, ok("Webhook test", f"{esp.label} posted one, and its proof holds.")]
        if now.signature_failures > before.signature_failures:
            what = "password" if esp.generates_webhook_secret else "verification key"
            return [*found, failed("Webhook test", f"It came and was refused: the {what} is wrong. Enter it anew.")]
        await asyncio.sleep(0.2)
    return [
        *found,
        failed("Webhook test", f"{esp.label} was told to post one and none came within {patience.seconds} s."),
    ]


async def check_notes(database: Database, esp: Provider | None, chosen: Chosen, silence: timedelta) -> Sequence[Check]:
    """What is noted and counted of an account."""
    practice_id, account_id = chosen.practice.id, chosen.account.id
    until = datetime.now(UTC) - silence
    counts = await count_for_health(database.app, practice_id, [account_id], until - timedelta(days=30), until)
    notes = (await find_accounts(database.app, practice_id, [account_id]))[account_id].notes
    found = []
    if esp is not None:
        last = notes.last_event_at
        text = f"The last event came at {last:%Y-%m-%d %H:%M} UTC." if last else "No event has come yet."
        found.append(ok("Last event", text))
    for advice in advise(esp, notes, counts[account_id], datetime.now(UTC)):
        if advice.code not in _ASKED_ANEW:
            text = f"{advice.text} {advice.next_step}".strip()
            found.append(Check("Health", _TOLD.get(advice.severity, Outcome.FAILED), text))
    return found
