"""One round against one server: sockets are opened, messages change, and it is timed when the last socket knows.

`python -m bench.live_round` reads one `Round` as JSON from stdin and prints one `Told` as JSON. With --announce it says
on stderr when all are connected.
"""

import asyncio
import contextlib
import dataclasses
import gc
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import uvloop

from bench.sockets import Subscriber, Wanted, connect, now, resident
from db.events import Matched, record_events
from db.pool import Database, PoolSize
from mail.event import Event, EventKind, EventSource
from mail.ids import MessageId, PracticeId
from workers import jobs
from workers.jobs import Jobs

_PATIENCE: Final = 30.0
_ANNOUNCE: Final = "--announce"
_MESSAGE: Final = re.compile(rb'"message":\{"id":"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Change:
    """A message that changes; `post` is the whole HTTP request by which its ESP says so, if it is to come that way."""

    practice_id: str
    message_id: str
    post: str | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """`selection` is what every socket asks of a change; `sockets` are (token, variables) each. With `per_second` 0
    each change waits until every socket knows of the one before; else changes come at that rate, `expected` frames in
    all.
    """

    database_url: str
    redis_url: str
    port: int
    pid: int
    selection: str
    sockets: Sequence[tuple[str, dict[str, Any]]]
    changes: Sequence[Change]
    per_second: float = 0
    expected: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """Milliseconds from each commit (or POST) until the last socket had it; memory in bytes, of each socket and of the
    server with all of them idle; frames that came, and how many of them were a second time of the same."""

    milliseconds: Sequence[float]
    each: float
    resident: int
    frames: int
    repeated: int
    closed: int


async def run(given: Round) -> Told:
    client = jobs.connect(given.redis_url)
    hurry = Jobs(client)
    seen: set[tuple[Subscriber, bytes]] = set()
    arrived = asyncio.Event()
    frames = repeated = wanted = 0
    last = 0.0

    def told(subscriber: Subscriber, body: bytes) -> None:
        nonlocal frames, repeated, last
        if b'"next"' not in body:
            return
        frames += 1
        if given.per_second:
            found = _MESSAGE.search(body)
            key = (subscriber, found[1] if found else body)
            repeated += key in seen
            seen.add(key)
        if frames - repeated >= wanted:
            last = now()
            arrived.set()

    async with Database(given.database_url, PoolSize(1, 4)) as database:
        before = resident(given.pid)
        sockets = await connect(
            given.port, [Wanted(token, given.selection, variables) for token, variables in given.sockets], told
        )
        await asyncio.sleep(1.0)  # until all have begun, and their garbage is gone
        after = resident(given.pid)
        if _ANNOUNCE in sys.argv:
            print("connected", file=sys.stderr, flush=True)
        gc.collect()
        gc.freeze()
        times: list[float] = []

        async def change(each: Change) -> float:
            """Makes a change; gives the moment from which it counts."""
            if each.post is not None:
                start = now()
                await _post(given.port, each.post)
                return start
            moment = datetime.now(UTC)
            event = Event(kind=EventKind.DEFERRED, occurred_at=moment, dedupe_key=f"live/{uuid4().hex}")
            matched = Matched(MessageId(UUID(each.message_id)), event, EventSource.WEBHOOK, moment)
            practice_id = PracticeId(UUID(each.practice_id))
            async with database.tenant(practice_id) as connection:
                await record_events(connection, practice_id, [matched])
            start = now()
            await hurry.announce(practice_id)
            return start

        if given.per_second:
            wanted = given.expected
            begun = now()
            making = set()
            for number, each in enumerate(given.changes):
                await asyncio.sleep(max(0.0, begun + number / given.per_second - now()))
                making.add(asyncio.ensure_future(change(each)))
            await asyncio.gather(*making)
            end = now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await arrived.wait()
            times.append(1000 * (last - end))
        else:
            for each in given.changes:
                wanted = frames + len(sockets)
                arrived.clear()
                start = await change(each)
                async with asyncio.timeout(_PATIENCE):
                    await arrived.wait()
                times.append(1000 * (last - start))
        closed = sum(socket.close_code is not None or socket.transport.is_closing() for socket in sockets)
        for socket in sockets:
            socket.transport.abort()
    await client.aclose(close_connection_pool=True)
    return Told(times, (after - before) / len(sockets), after, frames, repeated, closed)


async def _post(port: int, request: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    status = await reader.readline()
    writer.close()
    if b" 200 " not in status:
        raise RuntimeError(status.decode())


def main() -> None:
    given = json.load(sys.stdin)
    changes = [Change(**each) for each in given.pop("changes")]
    told = uvloop.run(run(Round(**given, changes=changes)))
    print(json.dumps(dataclasses.asdict(told)))


if __name__ == "__main__":
    main()
