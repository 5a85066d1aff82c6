"""The command line, as an operator meets it."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import httpx2
import jwt
import pytest

from carepost.embedded import EmbeddedServers
from db.patients import page_of_patients
from db.pool import Database, PoolSize
from db.practices import Practice
from mail.providers import PROVIDERS
from tests.acceptance.processes import (
    Ran,
    answers,
    carepost,
    free_port,
    nobody_left_in,
    processes_in,
    program,
    serving,
)
from tests.support import databases
from tests.support.practice import make_practice
from tests.support.stack import JWT_SECRET

REPOSITORY = Path(__file__).parents[2]
KEY = "a secret key of these processes which is long enough"


def one_sentence(ran: Ran) -> str:
    """What a command that failed says: one line on stderr, no traceback, and exit code 1."""
    assert ran.code == 1, ran
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err.startswith("carepost: ")
    return ran.err.removeprefix("carepost: ").strip()


async def test_a_token_stands_alone_on_the_last_line(database_url: str, practice: Practice, folder: Path) -> None:
    settings = {"CAREPOST_DATABASE_URL": database_url, "CAREPOST_JWT_SECRET": JWT_SECRET}
    ran = await carepost(folder, "token", "--role", "admin", "--subject", "ruth@northgate.example", **settings)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{ran.last_line}\n"
    claims = jwt.decode(ran.last_line, JWT_SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["practice_id"], claims["role"]) == (
        "ruth@northgate.example",
        str(practice.id),
        "ADMIN",
    )
    assert claims["exp"] - claims["iat"] == 12 * 3600


async def test_a_token_opens_the_api_that_runs_with_the_same_secret(
    servers: EmbeddedServers, database_url: str, practice: Practice, folder: Path
) -> None:
    settings = {
        "CAREPOST_DATABASE_URL": database_url,
        "CAREPOST_REDIS_URL": servers.redis_url,
        "CAREPOST_SECRET_KEY": KEY,
        "CAREPOST_JWT_SECRET": JWT_SECRET,
    }
    async with serving(folder, **settings) as (_, url), httpx2.AsyncClient(base_url=url) as client:
        token = (await carepost(folder, "token", **settings)).last_line
        headers = {"authorization": f"Bearer {token}"}
        answer = await client.post("/graphql", json={"query": "{ viewer { role practice { name } } }"}, headers=headers)
        assert answer.json() == {"data": {"viewer": {"role": "STAFF", "practice": {"name": "Northgate Practice"}}}}


async def test_where_there_are_several_practices_a_token_wants_one_named(
    database_url: str, practice: Practice, folder: Path
) -> None:
    other = await make_practice(database_url, "Southgate Practice")
    settings = {"CAREPOST_DATABASE_URL": database_url, "CAREPOST_JWT_SECRET": JWT_SECRET}
    said = one_sentence(await carepost(folder, "token", **settings))
    assert said.startswith("There are several practices; name one by --practice ID:")
    assert f"{practice.id}  Northgate Practice" in said
    assert f"{other.id}  Southgate Practice" in said
    ran = await carepost(folder, "token", "--practice", str(other.id), **settings)
    claims = jwt.decode(ran.last_line, JWT_SECRET, algorithms=["HS256"])
    assert claims["practice_id"] == str(other.id)
    said = one_sentence(await carepost(folder, "token", "--practice", "Southgate", **settings))
    assert said == "'Southgate' is no id of a practice."


async def test_where_there_is_no_practice_a_token_says_how_to_make_one(database_url: str, folder: Path) -> None:
    settings = {"CAREPOST_DATABASE_URL": database_url, "CAREPOST_JWT_SECRET": JWT_SECRET}
    said = one_sentence(await carepost(folder, "token", **settings))
    assert said == "There is no practice yet; make one: carepost practice 'Northgate Practice'"
    made = await carepost(folder, "practice", "Northgate Practice", "--time-zone", "Europe/Berlin", **settings)
    assert (made.code, made.err) == (0, "")
    ran = await carepost(folder, "token", **settings)
    claims = jwt.decode(ran.last_line, JWT_SECRET, algorithms=["HS256"])
    assert claims["practice_id"] == made.last_line


async def test_a_role_that_is_none_is_refused_with_those_that_are(folder: Path) -> None:
    ran = await carepost(folder, "token", "--role", "KING")
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err
    for role in ("staff", "admin", "auditor"):
        assert role in ran.err.lower()


async def test_a_time_zone_that_is_none_is_refused(database_url: str, folder: Path) -> None:
    ran = await carepost(
        folder, "practice", "Northgate", "--time-zone", "Mars/Olympus", CAREPOST_DATABASE_URL=database_url
    )
    assert one_sentence(ran) == "'Mars/Olympus' is no time zone; name one such as Europe/Berlin."


async def test_the_schema_is_printed_and_checked_against_a_file(folder: Path) -> None:
    current = REPOSITORY / "schema.graphql"
    printed, same, stale = await asyncio.gather(
        carepost(folder, "schema"),
        carepost(folder, "schema", "--check", str(current)),
        carepost(folder, "schema", "--check", "missing.graphql"),
    )
    assert (printed.code, printed.out, printed.err) == (0, current.read_text(), "")
    assert (same.code, same.out, same.err) == (0, "", "")
    assert (stale.code, stale.out) == (1, "")
    assert " ".join(stale.err.split()) == "missing.graphql is stale; run `carepost schema > missing.graphql`."


async def test_patients_come_by_a_file_and_one_is_erased(database_url: str, folder: Path) -> None:
    practice = await make_practice(database_url, "Northgate")
    file = folder / "patients.csv"
    file.write_text(
        "\ufeffName,Email,Open_Tracking\r\n"
        '"Lovelace, Ada",ada@mail.example,yes\r\n'
        "Ben,not-an-address,yes\r\n"
        "Cleo,cleo@mail.example,no\r\n"
        "Dan,dan@mail.example,perhaps\r\n",
        encoding="utf-8",
    )
    at = {"CAREPOST_DATABASE_URL": database_url, "CAREPOST_SECRET_KEY": KEY}
    for arguments, last in (
        (["--dry-run"], "Would make 2 patients; 0 were there already; 2 lines left out."),
        ([], "Made 2 patients; 0 were there already; 2 lines left out."),
        ([], "Made 0 patients; 2 were there already; 2 lines left out."),
    ):
        ran = await carepost(folder, "import", str(file), *arguments, **at)
        assert ran.code == 3
        lines = ran.err.strip().splitlines()
        assert lines[-1] == last
        assert lines[0].startswith("line 3: email: ")
        assert lines[1] == "line 5: open_tracking: Write yes or no."
    async with Database(database_url, PoolSize(0, 1)) as database:
        found = await page_of_patients(database.app, practice.id, "", 10, None)
        assert [(each.name, each.open_tracking) for each in found] == [("Cleo", False), ("Lovelace, Ada", True)]
        refused = await carepost(folder, "erase", str(found[1].id), **at)
        assert refused.code == 1
        ran = await carepost(folder, "erase", str(found[1].id), "--yes", **at)
        assert (ran.code, ran.out) == (0, "")
        assert ran.err.startswith("Erased: name, address and consent; the content of 0 messages,")
        left = await page_of_patients(database.app, practice.id, "", 10, None)
    assert [each.name for each in left] == ["Cleo", "Erased patient"]
    missing = await carepost(folder, "erase", str(practice.id), "--yes", **at)
    assert one_sentence(missing) == "There is no such patient in this practice."
    (folder / "bad.csv").write_text("a,b\n1,2\n")
    bad = await carepost(folder, "import", "bad.csv", **at)
    assert one_sentence(bad) == "bad.csv has no columns name and email in its first line."


async def test_what_is_said_of_the_esps_is_made_from_their_adapters(folder: Path) -> None:
    current = REPOSITORY / "docs" / "providers.md"
    printed, stale = await asyncio.gather(
        carepost(folder, "providers"), carepost(folder, "providers", "--check", "missing.md")
    )
    assert (printed.code, printed.out, printed.err) == (0, current.read_text(), "")
    assert (stale.code, stale.out) == (1, "")
    for each in PROVIDERS.values():
        row = next(line for line in printed.out.splitlines() if f"`{each.name}`" in line)
        assert row.count("|") == 11


async def test_migrate_is_safe_to_run_twice(servers: EmbeddedServers, folder: Path) -> None:
    async with databases.fresh(servers.database_url, template="template0") as url:
        ran = await carepost(folder, "migrate", CAREPOST_DATABASE_URL=url)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines()[0] == "applied 0001_create_the_house.sql"
        ran = await carepost(folder, "migrate", CAREPOST_DATABASE_URL=url)
        assert (ran.code, ran.out, ran.err) == (0, "the database is up to date\n", "")


async def test_a_database_that_was_never_migrated_is_not_worked_on(servers: EmbeddedServers, folder: Path) -> None:
    async with databases.fresh(servers.database_url, template="template0") as url:
        ran = await carepost(
            folder,
            "worker",
            CAREPOST_DATABASE_URL=url,
            CAREPOST_REDIS_URL=servers.redis_url,
            CAREPOST_SECRET_KEY=KEY,
            CAREPOST_JWT_SECRET=JWT_SECRET,
            CAREPOST_PORT=str(free_port()),
        )
    assert ran.code != 0
    assert "carepost migrate" in ran.err
    assert "Traceback" not in ran.err


ALL = {
    "CAREPOST_DATABASE_URL": "postgresql://carepost@127.0.0.1:1/carepost",
    "CAREPOST_REDIS_URL": "redis://127.0.0.1:1",
    "CAREPOST_SECRET_KEY": KEY,
    "CAREPOST_JWT_SECRET": JWT_SECRET,
}


@pytest.mark.parametrize(
    ("command", "missing", "example"),
    [
        ("api", "CAREPOST_DATABASE_URL", "postgresql://"),
        ("api", "CAREPOST_REDIS_URL", "redis://"),
        ("api", "CAREPOST_SECRET_KEY", "openssl rand -base64 32"),
        ("api", "CAREPOST_JWT_SECRET", "openssl rand -base64 32"),
        ("worker", "CAREPOST_DATABASE_URL", "postgresql://"),
        ("worker", "CAREPOST_SECRET_KEY", "openssl rand -base64 32"),
        ("migrate", "CAREPOST_DATABASE_URL", "carepost up"),
    ],
)
async def test_a_setting_that_is_missing_is_named_with_a_valid_value(
    folder: Path, command: str, missing: str, example: str
) -> None:
    settings = {name: value for name, value in ALL.items() if name != missing}
    said = one_sentence(await carepost(folder, command, CAREPOST_PORT=str(free_port()), **settings))
    assert missing in said
    assert example in said


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CAREPOST_PORT", "http", "integer"),
        ("CAREPOST_PORT", "70000", "65535"),
        ("CAREPOST_TRACKING_START", "23.07.2019", "date"),
        ("CAREPOST_SECRET_KEY", "short", "openssl rand -base64 32"),
        ("CAREPOST_JWT_SECRET", "short", "openssl rand -base64 32"),
        ("CAREPOST_SWEEP_SECONDS", "60", "15"),
        ("CAREPOST_JWKS_URL", "https://login.example.com/jwks.json", "not both"),
    ],
)
async def test_a_setting_that_is_wrong_is_named_and_its_value_kept_to_itself(
    folder: Path, name: str, value: str, words: str
) -> None:
    said = one_sentence(await carepost(folder, "api", **(ALL | {name: value})))
    assert name in said
    assert words in said
    if "SECRET" in name:
        assert value not in said.replace(name, "")


async def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for command in ("api", "up"):
            said = one_sentence(await carepost(folder, command, **(ALL | {"CAREPOST_PORT": str(port)})))
            assert said.startswith(f"Port {port} on 127.0.0.1 is taken by another program.")
            assert "CAREPOST_PORT=" in said


async def test_a_database_that_cannot_be_reached_is_one_sentence(folder: Path) -> None:
    one_sentence(await carepost(folder, "migrate", **ALL))


async def test_up_serves_with_servers_of_its_own_stops_on_ctrl_c_and_keeps_its_data(folder: Path) -> None:
    port = free_port()
    settings = {"CAREPOST_PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    query = {"query": '{ patients(search: "Søren") { nodes { name } } viewer { practice { name } } }'}
    create = {
        "query": 'mutation { createPatient(input: {name: "Søren Kjær", email: "soren@mail.example"}) '
        "{ errors { message } } }"
    }
    found = {"patients": {"nodes": [{"name": "Søren Kjær"}]}, "viewer": {"practice": {"name": "Northgate Practice"}}}
    for start in ("first", "second"):
        with program(folder, "up", **settings) as up:
            await up.says(f"Carepost serves at {url}. Stop it with Ctrl-C.")
            await answers(up, f"{url}/readyz")
            async with httpx2.AsyncClient(base_url=url) as client:
                if start == "first":
                    assert (await carepost(folder, "practice", "Northgate Practice")).code == 0
                token = (await carepost(folder, "token")).last_line
                headers = {"authorization": f"Bearer {token}"}
                if start == "first":
                    made = await client.post("/graphql", json=create, headers=headers)
                    assert made.json() == {"data": {"createPatient": {"errors": []}}}
                assert (await client.post("/graphql", json=query, headers=headers)).json() == {"data": found}
                assert (await client.get("/")).status_code == 200
            assert len(processes_in(folder)) >= 4
            up.tell(signal.SIGINT)
            assert await up.ends(within=20) == 0
            assert "Traceback" not in up.printed
        await nobody_left_in(folder, within=5)
    said = one_sentence(await carepost(folder, "token"))
    assert said == "No Carepost runs in .carepost. Start one (carepost up), or set CAREPOST_DATABASE_URL."


async def test_a_server_of_up_that_falls_serves_again_and_all_stop_before_what_they_need(folder: Path) -> None:
    port = free_port()
    with program(folder, "up", CAREPOST_PORT=str(port)) as up:
        await up.says("Carepost serves at")
        await up.says("worker is ready")
        [api] = [pid for pid, line in processes_in(folder).items() if line.endswith("-m carepost api ")]
        os.kill(api, signal.SIGKILL)
        await up.says("a process ended and is started again")
        await answers(up, f"http://127.0.0.1:{port}/readyz")
        # What shows the schema, or puts queries into addresses, nobody asked for.
        assert httpx2.get(f"http://127.0.0.1:{port}/graphiql", trust_env=False).status_code == 404
        by_get = f"http://127.0.0.1:{port}/graphql?query={{__schema{{queryType{{name}}}}}}"
        assert httpx2.get(by_get, trust_env=False).status_code == 405
        printed = up.printed
        up.tell(signal.SIGTERM)
        assert await up.ends(within=20) == 0
        assert "worker has stopped" in up.printed
        # Nobody was left looking for a Postgres or Valkey that had stopped.
        assert [
            line for line in up.printed.removeprefix(printed).splitlines() if "worker has stopped" not in line
        ] == []
    await nobody_left_in(folder, within=5)


async def test_up_stops_in_order_when_the_pipe_of_whoever_supervises_it_ends(folder: Path) -> None:
    settings = {"CAREPOST_PORT": str(free_port()), "CAREPOST_SUPERVISED": "1"}
    its, mine = os.pipe()
    with (
        os.fdopen(its) as read,
        os.fdopen(mine, "wb") as pipe,
        program(folder, "up", stdin=read.fileno(), **settings) as up,
    ):
        await up.says("Carepost serves at")
        pipe.close()
        assert await up.ends(within=20) == 0
    await nobody_left_in(folder, within=5)


async def test_up_with_a_database_elsewhere_wants_secrets_of_ones_own(database_url: str, folder: Path) -> None:
    said = one_sentence(
        await carepost(folder, "up", CAREPOST_DATABASE_URL=database_url, CAREPOST_PORT=str(free_port()))
    )
    assert said.startswith("Set CAREPOST_SECRET_KEY")
    await nobody_left_in(folder, within=5)
