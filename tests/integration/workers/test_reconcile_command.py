"""`carepost reconcile` asks at once, whatever the pauses, and says what came of it."""

from collections.abc import AsyncIterator
from datetime import date, timedelta

import pytest

from carepost.chosen import Choice
from carepost.config import Settings
from carepost.reconcile import Days, run_reconcile
from db.practices import Practice
from tests.integration.workers.vendor import Past, Vendor, vendor
from tests.support.practice import make_account
from tests.support.stack import LOOPBACK, Stack

DAY = timedelta(days=1)


@pytest.fixture
async def it() -> AsyncIterator[Vendor]:
    async with vendor() as running:
        yield running


@pytest.fixture
async def past(stack: Stack, practice: Practice, it: Vendor) -> Past:
    return await Past.of(stack, practice, it)


@pytest.fixture
def settings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("COLUMNS", "160")
    return Settings(
        database_url=stack.database_url,
        redis_url=stack.redis_url,
        secret_key=("the secret key of the tests: long enough to be taken",),
        allowed_networks=tuple(LOOPBACK),
    )


async def test_each_unanswered_message_is_asked_about_once_even_if_it_just_was(
    past: Past, it: Vendor, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    told, untold = await past.sent("pm-1", timedelta(minutes=5)), await past.sent("pm-2")
    it.delivered("pm-1")
    await make_account(past.stack.database, past.practice)
    async with past.stack.database.tenant(past.practice.id) as connection:
        await connection.execute("UPDATE message SET ask_at = now() + interval '1 day'")
    assert await run_reconcile(settings, Choice(), Days(), dry_run=True)
    assert it.asked == []
    assert "would be asked" in capsys.readouterr().out
    assert await run_reconcile(settings, Choice(practice=str(past.practice.id)), Days(), dry_run=False)
    assert sorted(it.asked) == ["pm-1", "pm-2"]
    assert [(await past.row(each))["verdict"] for each in (told, untold)] == ["delivered", "sent"]
    lines = capsys.readouterr().out.splitlines()
    [postmark] = [line for line in lines if "Postmark" in line]
    assert [cell.strip() for cell in postmark.strip("│").split("│")][2:] == ["2", "2", "1", "1", "done"]
    [sendgrid] = [line for line in lines if "SendGrid" in line]
    assert "can't be asked" in sendgrid


async def test_only_messages_of_the_days_named_are_asked_about(past: Past, it: Vendor, settings: Settings) -> None:
    for days in (1, 3, 5):
        await past.sent(f"pm-{days}", days * DAY)
    three_days_ago = (
        (await past.row(await past.sent("pm-3b", 3 * DAY)))["sent_at"].astimezone(past.practice.zone).date()
    )
    assert await run_reconcile(settings, Choice(), Days(three_days_ago, three_days_ago), dry_run=False)
    assert sorted(it.asked) == ["pm-3", "pm-3b"]
    assert await run_reconcile(settings, Choice(), Days(date(2020, 1, 1), date(2020, 1, 2)), dry_run=False)
    assert len(it.asked) == 2


async def test_a_key_that_is_refused_ends_it_and_is_said(
    past: Past, it: Vendor, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await past.sent("pm-1")
    it.token = "another"
    assert not await run_reconcile(settings, Choice(account=str(past.account.id)), Days(), dry_run=False)
    assert "the ESP refuses the key" in capsys.readouterr().out
