"""A full disk promises nothing, and all goes on once there is room.

Once by a trigger, which raises the error that Postgres raises then; and once, for root on Linux, with the tables that
grow on a file system of a few MB which is really full.
"""

import asyncio
import contextlib
import os
import random
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.faults import books, house
from tests.faults.house import House
from tests.faults.load import Sends
from tests.faults.process import PATIENCE
from tests.faults.servers import Servers
from tests.support.stack import until

GROWING = ("message", "attempt", "webhook_delivery")


@contextlib.asynccontextmanager
async def by_a_trigger(home: House) -> AsyncIterator[None]:
    """Postgres' error of a full disk at every INSERT into the tables that grow."""
    await home.ask(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
    )
    for table in (*GROWING, "message_event"):
        await home.ask(f"CREATE TRIGGER no_room BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION no_room()")
    yield
    for table in (*GROWING, "message_event"):
        await home.ask(f"DROP TRIGGER no_room ON {table}")


@contextlib.asynccontextmanager
async def by_a_small_file_system(home: House) -> AsyncIterator[None]:
    """The tables that grow stand where no byte is free: they have the rest of their last pages."""
    data = Path((await home.ask("SHOW data_directory"))[0][0])
    small = data.parent / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system that is full needs root and a mount")
    try:
        os.chown(small, data.stat().st_uid, data.stat().st_gid)
        month = (await home.ask("SELECT 'message_event_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')"))[0][0]
        tables = (*GROWING, month)
        await home.ask(f"CREATE TABLESPACE small LOCATION '{small}'")
        for table in tables:
            await home.ask(f"ALTER TABLE {table} SET TABLESPACE small")
        filler = small / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        yield
        filler.unlink()
        for table in tables:
            await home.ask(f"ALTER TABLE {table} SET TABLESPACE pg_default")
        await home.ask("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", small], check=False)


@pytest.mark.parametrize("full", [by_a_trigger, by_a_small_file_system])
async def test_a_full_disk_promises_nothing_and_all_goes_on_once_there_is_room(
    durable_servers: Servers,
    full: Callable[[House], AbstractAsyncContextManager[None]],
) -> None:
    async with house.furnished(durable_servers) as home:
        sends, stop = Sends(home, random.Random(2)), asyncio.Event()
        await sends.prepare()
        for _ in range(5):
            await sends.send()
        await books.balance(home, sends, [])
        async with full(home):
            sending = asyncio.create_task(sends.keep_sending(stop, 20))
            await until(lambda: _is_refused(sends.codes), PATIENCE)
            stop.set()
            taken = len(sends.taken)
            assert not sending.done()
        await asyncio.wait_for(sending, PATIENCE)
        found = await books.balance(home, sends, [])
        assert found.acknowledged > taken
        assert set(sends.codes) == {"UNAVAILABLE"}


async def _is_refused(codes: Counter[str]) -> bool:
    return codes["UNAVAILABLE"] > 20
