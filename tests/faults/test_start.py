"""The order of starting doesn't matter, and what doesn't fit together is refused in clear words."""

import asyncio
import signal

from db.migrate import migrate
from tests.acceptance.processes import carepost
from tests.faults import house
from tests.faults.process import tree
from tests.faults.proxy import Link
from tests.faults.servers import Servers

NEWER = "INSERT INTO migration (number, name, checksum, needs) VALUES (9001, '9001_of_a_later_release.sql', '-', $1)"


async def test_processes_started_before_their_servers_wait_and_say_so(durable_servers: Servers) -> None:
    async with house.empty(durable_servers, apis=1, workers=1) as home:
        await migrate(home.direct_url)
        await home.link("postgres", Link.REFUSING)
        await home.link("valkey", Link.REFUSING)
        for process in home.processes:
            process.start()
        for process in home.processes:
            await process.says("postgres is out of reach; waiting")
        await home.link("postgres", Link.OPEN)
        await home.workers[0].says("worker is ready")

        async def status() -> tuple[int, str]:
            code, told = await home.readiness()
            return code, told["live"]

        assert await status() == (200, "delayed: valkey is out of reach")
        await home.link("valkey", Link.OPEN)
        await home.ready()
        assert all(process.is_running for process in home.processes)


async def test_the_wait_has_a_bound_and_can_be_broken_off(durable_servers: Servers) -> None:
    async with house.empty(durable_servers, apis=2, workers=2) as home:
        await migrate(home.direct_url)
        await home.link("postgres", Link.REFUSING)
        for process, seconds in zip(home.processes, ("1", "60", "1", "60"), strict=True):
            process.environment["CAREPOST_START_SECONDS"] = seconds
            process.start()
        for process in home.processes:
            await process.says("postgres is out of reach; waiting")
        for process in (home.apis[0], home.workers[0]):
            assert await process.ends() != 0
            assert "Postgres could not be reached for 1 s" in process.printed
            assert "Traceback" not in process.printed
        for process in (home.apis[1], home.workers[1]):
            process.tell(signal.SIGTERM)
            assert await process.ends(within=10) == 0


async def test_two_migrations_at_once_and_every_history_that_does_not_fit(durable_servers: Servers) -> None:
    async with house.empty(durable_servers, apis=1, workers=1) as home:
        settings = {"CAREPOST_DATABASE_URL": house.settings(home, "api")["CAREPOST_DATABASE_URL"], **tree()}
        home.workers[0].start()
        assert await home.workers[0].ends() == 1
        assert "The database is empty; run `carepost migrate`." in home.workers[0].printed

        first, second = await asyncio.gather(*(carepost(home.folder, "migrate", **settings) for _ in range(2)))
        assert (first.code, second.code) == (0, 0)
        assert sorted("applied 0001" in ran.out for ran in (first, second)) == [False, True]

        home.apis[0].start()
        await home.ready()
        # A later release migrates while this one serves, and says that this one may go on.
        await home.ask(NEWER, 0)
        told = "ok; newer than this program, by 9001_of_a_later_release.sql"
        assert await home.readiness() == (200, {"status": "ready", "database": told, "live": "ok"})
        home.workers[0].start()
        await home.workers[0].says("worker is ready")
        home.workers[0].kill()
        refused = await carepost(home.folder, "migrate", **settings)
        assert refused.code == 1
        assert "The database is newer than this program: it has 9001_of_a_later_release.sql." in refused.err

        # One that this program can't work with.
        await home.ask("UPDATE migration SET needs = 9001 WHERE number = 9001")
        told = "The database is too new for this program, by 9001_of_a_later_release.sql. Upgrade Carepost."
        assert await home.readiness() == (503, {"status": "unavailable", "database": told, "live": "ok"})
        home.workers[0].start()
        assert await home.workers[0].ends() == 1
        assert told in home.workers[0].printed

        # And one that was edited.
        await home.ask("DELETE FROM migration WHERE number = 9001")
        await home.ask("UPDATE migration SET checksum = 'another' WHERE number = 1")
        status, answer = await home.readiness()
        assert (status, answer["database"][:60]) == (
            503,
            "0001_create_the_house.sql was edited after it was applied. R",
        )
        refused = await carepost(home.folder, "migrate", **settings)
        assert refused.code == 1
        assert "0001_create_the_house.sql was edited after it was applied." in refused.err
