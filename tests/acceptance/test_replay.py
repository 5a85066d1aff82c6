"""`carepost replay`, as an operator meets it."""

from pathlib import Path

import orjson
import pytest

from carepost.embedded import EmbeddedServers
from db.pool import Database
from db.practices import Practice
from db.sealing import Sealer
from tests.acceptance.processes import carepost
from tests.acceptance.test_cli import one_sentence
from tests.integration.api.evidence import make_messages
from tests.integration.api.hooks import sendgrid_event
from tests.support.practice import make_account, make_delivery, make_patient
from workers.apply import Applier
from workers.jobs import Jobs, connect

KEY = "a secret key of these processes which is long enough"


@pytest.fixture
async def settings(servers: EmbeddedServers, database_url: str) -> dict[str, str]:
    return {
        "CAREPOST_DATABASE_URL": database_url,
        "CAREPOST_REDIS_URL": servers.redis_url,
        "CAREPOST_SECRET_KEY": KEY,
    }


@pytest.fixture
async def missed(
    servers: EmbeddedServers, database: Database, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three webhooks of which a program of yesterday read nothing; one of them can't be read today either."""
    monkeypatch.setattr("tests.support.practice.OWN_SEALER", Sealer([KEY]))
    account = await make_account(database, practice)
    messages = await make_messages(database, practice, await make_patient(database, practice), account, 2)
    for message in messages:
        await make_delivery(database, practice, account.id, orjson.dumps([sendgrid_event("delivered", message)]))
    await make_delivery(database, practice, account.id, b"[{")
    client = connect(servers.redis_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mail.providers.sendgrid.SendGrid.read_webhook", lambda *_: 1 / 0)
        await Applier(database, Sealer([KEY]), Jobs(client, enabled=False), reader=1).apply_pending()
    await client.aclose(close_connection_pool=True)


async def verdicts(database: Database, practice: Practice) -> list[str]:
    async with database.tenant(practice.id) as connection:
        rows = await connection.fetch("SELECT verdict::text FROM message")
    return [row["verdict"] for row in rows]


def row(out: str, label: str) -> str:
    """The number that stands beside a label in the table."""
    [line] = [line for line in out.splitlines() if label in line]
    return line.split("│")[2].strip()


async def test_a_dry_run_shows_what_would_change_and_the_replay_changes_it(
    database: Database, practice: Practice, missed: None, settings: dict[str, str], folder: Path
) -> None:
    dry = await carepost(folder, "replay", "--dry-run", **settings)
    assert dry.code == 3
    assert "nothing was written" in dry.out
    assert await verdicts(database, practice) == ["queued", "queued"]
    wet = await carepost(folder, "replay", "--practice", str(practice.id), "--only", "failed", **settings)
    assert wet.code == 3
    for out in (dry.out, wet.out):
        assert row(out, "webhooks read") == "3"
        assert row(out, "added") == "2"
        assert row(out, "still unreadable") == "1"
        assert row(out, "messages from Queued to Delivered") == "2"
    assert await verdicts(database, practice) == ["delivered", "delivered"]
    again = await carepost(folder, "replay", "--provider", "sendgrid", "--to", "2019-01-01", **settings)
    assert (again.code, row(again.out, "webhooks read")) == (0, "0")


async def test_what_is_not_meant_is_said_in_one_sentence(
    practice: Practice, settings: dict[str, str], folder: Path
) -> None:
    for arguments, said in (
        (["--from", "yesterday"], "--from 'yesterday' is no time; name one such as 2026-03-01T12:00Z."),
        (["--account", "nobody"], "'nobody' is no id of a sending account."),
        (["--practice", "nobody"], "'nobody' is no id of a practice."),
        (["--resume", "here"], "'here' is no place to carry on from; a replay that is stopped names one."),
    ):
        assert one_sentence(await carepost(folder, "replay", *arguments, **settings)) == said
    said = one_sentence(await carepost(folder, "replay", "--provider", "pigeon", **settings))
    assert said.startswith("'pigeon' is no provider; name one of ")
    without = {name: value for name, value in settings.items() if name != "CAREPOST_SECRET_KEY"}
    assert one_sentence(await carepost(folder, "replay", **without)).startswith("Set CAREPOST_SECRET_KEY")
